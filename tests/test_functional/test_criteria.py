# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 1 and 8: the loss of one row of logits."""
import math
from functools import partial

import pytest
import torch
from literal import row_losses as literal
from literal.tensors import assert_near, scalars, stacked

from sdd_mm.functional import (closed_dkd_loss, closed_kd_loss,
                               closed_nkd_loss, dkd_loss, kd_loss, nkd_loss)

TAUS = [0.5, 1., 4.]


def ignoring_label(function):
    """``function`` with a label that it has no use for."""

    def wrapped(student, teacher, label, **kwargs):
        return function(student, teacher, **kwargs)

    return wrapped


CRITERIA = {
    'kd': (ignoring_label(kd_loss), ignoring_label(literal.kd), {}),
    'dkd': (dkd_loss, literal.dkd, dict(alpha=1., beta=8.)),
    'dkd-other': (dkd_loss, literal.dkd, dict(alpha=3., beta=0.5)),
    'nkd': (nkd_loss, literal.nkd, dict(gamma=1.5)),
    'nkd-other': (nkd_loss, literal.nkd, dict(gamma=8.)),
    'nkd-kept': (nkd_loss, literal.nkd, dict(gamma=1.5, keep_target=True)),
}
CLOSED = {
    kd_loss: closed_kd_loss,
    dkd_loss: closed_dkd_loss,
    nkd_loss: closed_nkd_loss
}
for name, (function, slow, parameters) in list(CRITERIA.items()):
    function = ignoring_label(
        closed_kd_loss) if name == 'kd' else CLOSED[function]
    CRITERIA[f'closed-{name}'] = function, slow, parameters
WITH_LABEL = [
    dkd_loss, nkd_loss,
    partial(nkd_loss, keep_target=True), closed_dkd_loss, closed_nkd_loss,
    partial(closed_nkd_loss, keep_target=True)
]
NAMES = ['dkd', 'nkd', 'nkd-kept', 'closed-dkd', 'closed-nkd', 'closed-kept']


def make(*shape):
    """Student and teacher logits, and labels."""
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (
        2 * torch.randn(2, *shape, generator=generator, dtype=torch.float64))
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    return student.requires_grad_(), teacher.requires_grad_(), labels


@pytest.mark.parametrize('name', CRITERIA)
@pytest.mark.parametrize('tau', TAUS)
@pytest.mark.parametrize('classes', [2, 3, 10])
def test_equals_literal(classes, tau, name):
    function, slow, parameters = CRITERIA[name]
    student, teacher, labels = make(5, classes)
    actual = function(student, teacher, labels, tau=tau, **parameters)
    rows = zip(scalars(student), scalars(teacher), labels.tolist())
    expected = stacked([slow(*row, tau=tau, **parameters) for row in rows])
    assert actual.shape == labels.shape
    assert_near(actual, expected)
    # no gradient flows into the teacher of a closed form
    inputs = [student] if name.startswith('closed') else [student, teacher]
    for one, other in zip(
            torch.autograd.grad(actual.sum(), inputs),
            torch.autograd.grad(expected.sum(), inputs)):
        assert_near(one, other)


@pytest.mark.parametrize('name', CRITERIA)
def test_takes_rows_in_any_shape(name):
    function, _, parameters = CRITERIA[name]
    student, teacher, labels = make(3, 4, 5)
    losses = function(student, teacher, labels, **parameters)
    assert losses.shape == (3, 4)
    for n in range(3):
        for b in range(4):
            row = function(student[n, b], teacher[n, b], labels[n, b],
                           **parameters)
            assert row.shape == ()
            assert_near(losses[n, b], row, 1e-13)


@pytest.mark.parametrize(
    'kd_loss, dkd_loss, nkd_loss',
    [list(CLOSED), list(CLOSED.values())],
    ids=['plain', 'closed'])
def test_by_hand(kd_loss, dkd_loss, nkd_loss):
    # Two classes at tau 1: the teacher says 3/4 and 1/4, the student 1/2.
    student = torch.zeros(2, dtype=torch.float64)
    teacher = torch.tensor([math.log(3), 0], dtype=torch.float64)
    rows = student, teacher, torch.tensor(0)
    kl = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    target = 3 / 4 * math.log(2)
    for loss, expected in [
        (kd_loss(student, teacher, 1.), kl),
        (dkd_loss(*rows, 5., 7., 1.), 5 * kl),
        (nkd_loss(*rows), target),
        (nkd_loss(*rows, keep_target=True), target + 1.5 * math.log(2)),
    ]:
        assert loss.item() == pytest.approx(expected, 1e-14)


@pytest.mark.parametrize('tau', TAUS)
def test_dkd_decouples_kd(tau):
    # Equation 7 of Zhao et al. (2022): KD = TCKD + (1 - p_y) NCKD.
    student, teacher, labels = make(6, 5)
    p = (teacher / tau).softmax(-1).gather(-1, labels[:, None])[:, 0]
    tckd = dkd_loss(student, teacher, labels, 1., 0., tau)
    nckd = dkd_loss(student, teacher, labels, 0., 1., tau)
    assert_near(tckd + (1 - p) * nckd, kd_loss(student, teacher, tau), 1e-13)


@pytest.mark.parametrize('tau', TAUS)
@pytest.mark.parametrize('keep_target', [True, False])
def test_nkd_is_a_cross_entropy(keep_target, tau):
    _, teacher, labels = make(6, 5)
    assert (nkd_loss(
        teacher, teacher, labels, tau=tau, keep_target=keep_target) > 0).all()
    teacher = teacher.detach().requires_grad_()
    loss = nkd_loss(
        teacher, teacher.detach(), labels, tau=tau, keep_target=keep_target)
    p = teacher.detach().softmax(-1).gather(-1, labels[:, None])
    one_hot = torch.nn.functional.one_hot(labels, 5)
    gradient, = torch.autograd.grad(loss.sum(), teacher)
    assert_near(gradient, p * (teacher.detach().softmax(-1) - one_hot), 1e-12)


@pytest.mark.parametrize('function', WITH_LABEL, ids=NAMES)
def test_scores_act_through_their_argmax(function):
    student, teacher, labels = make(4, 3, 5)
    expected = function(student, teacher, labels)
    one_hot = torch.nn.functional.one_hot(labels, 5)
    for scores in [one_hot, one_hot.double(), 0.9 * one_hot + 0.02]:
        assert torch.equal(function(student, teacher, scores), expected)


@pytest.mark.parametrize('function', WITH_LABEL, ids=NAMES)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.int32])
def test_labels_may_be_any_integers(dtype, function):
    student, teacher, labels = make(4, 5)
    assert torch.equal(
        function(student, teacher, labels.to(dtype)),
        function(student, teacher, labels))


def test_defaults():
    student, teacher, labels = make(4, 5)
    inputs = student, teacher, labels
    assert torch.equal(
        kd_loss(student, teacher), kd_loss(student, teacher, 4.))
    assert torch.equal(dkd_loss(*inputs), dkd_loss(*inputs, 1., 8., 4.))
    assert torch.equal(
        nkd_loss(*inputs), nkd_loss(*inputs, 1.5, 1., keep_target=False))


def test_arguments_may_be_named():
    student, teacher, labels = make(4, 5)
    rows = dict(student=student, teacher=teacher)
    assert torch.equal(kd_loss(**rows), kd_loss(student, teacher))
    for function in WITH_LABEL:
        named = function(target=labels, **rows)
        assert torch.equal(named, function(student, teacher, labels))


@pytest.mark.parametrize('name', CRITERIA)
@pytest.mark.parametrize('classes', [2, 4])
def test_gradcheck(classes, name):
    function, _, parameters = CRITERIA[name]
    student, teacher, labels = make(3, classes)
    if name.startswith('closed'):
        teacher = teacher.detach()

    def rows(student, teacher):
        return function(student, teacher, labels, tau=2., **parameters)

    assert torch.autograd.gradcheck(rows, (student, teacher))


@pytest.mark.parametrize('name', CRITERIA)
@pytest.mark.parametrize('tau', [0, 0., -1., math.nan], ids=str)
def test_refuses_tau(tau, name):
    function, _, parameters = CRITERIA[name]
    with pytest.raises(
            ValueError, match=f'tau must be positive and finite, got {tau!r}'):
        function(*make(4, 5), tau=tau, **parameters)


@pytest.mark.parametrize('name', CRITERIA)
def test_refuses_logits_of_two_shapes(name):
    function, _, parameters = CRITERIA[name]
    student, teacher, labels = make(4, 5)
    for other in [teacher[:3], teacher[:, :4], teacher[0], teacher[None]]:
        with pytest.raises(ValueError, match=r'one shape \(\.\.\., K\), got'):
            function(student, other, labels, **parameters)


@pytest.mark.parametrize('name', CRITERIA)
@pytest.mark.parametrize('shape', [(), (4, 1), (4, 0)], ids=str)
def test_refuses_fewer_than_two_classes(shape, name):
    function, _, parameters = CRITERIA[name]
    logits = torch.zeros(shape)
    labels = torch.zeros(shape[:-1], dtype=torch.long)
    with pytest.raises(ValueError, match='at least 2 classes'):
        function(logits, logits, labels, **parameters)


@pytest.mark.parametrize('function', WITH_LABEL, ids=NAMES)
@pytest.mark.parametrize(
    'shape', [(), (3, ), (1, 4), (4, 4), (4, 1), (2, 4)], ids=str)
def test_refuses_target_of_wrong_shape(shape, function):
    student, teacher, _ = make(4, 5)
    target = torch.zeros(shape, dtype=torch.long)
    with pytest.raises(ValueError, match=r'target must have shape \(4,\)'):
        function(student, teacher, target)


@pytest.mark.parametrize('function', WITH_LABEL, ids=NAMES)
def test_refuses_float_labels(function):
    student, teacher, labels = make(4, 5)
    with pytest.raises(ValueError, match='labels must be integers'):
        function(student, teacher, labels.float())
