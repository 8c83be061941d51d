# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 1 and 8: the loss of one row of logits."""
import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from literal.tensors import assert_near, scalars, stacked
from test_functional.cases import LOSSES, case, on_every_loss

from sdd_mm.functional import dkd_loss, kd_loss, nkd_loss

TAUS = [0.5, 1., 4.]
PARAMETERS = {
    'kd': [{}],
    'dkd': [dict(alpha=1., beta=8.),
            dict(alpha=3., beta=0.5)],
    'nkd': [dict(gamma=1.5), dict(gamma=8.)],
    'nkd-kept': [dict(gamma=1.5)],
}
WITH_LABEL = {name: LOSSES[name].function for name in LOSSES if name != 'kd'}
on_every_loss_with_label = pytest.mark.parametrize('name', WITH_LABEL)


def make(*shape):
    """Student and teacher logits, and labels."""
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (
        2 * torch.randn(2, *shape, generator=generator, dtype=torch.float64))
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    return student.requires_grad_(), teacher, labels


def differentiate(function, student, teacher, labels, **kwargs):
    """Losses, and the student's gradient under unequal weights of the rows."""
    rows = function(student, teacher, labels, **kwargs)
    weights = torch.linspace(
        -1, 2, rows.numel(), dtype=rows.dtype).view(rows.shape)
    return rows, torch.autograd.grad(rows, student, weights)[0]


@on_every_loss
def test_equals_literal(name):
    function, _, literal = LOSSES[name]

    def by_rows(student, teacher, labels, **kwargs):
        rows = zip(scalars(student), scalars(teacher), labels.tolist())
        return stacked([literal(*row, **kwargs) for row in rows])

    for parameters, tau, classes in product(PARAMETERS[name], TAUS,
                                            [2, 3, 10]):
        with case(tau=tau, classes=classes, **parameters):
            kwargs = dict(parameters, tau=tau)
            inputs = make(5, classes)
            actual, gradient = differentiate(function, *inputs, **kwargs)
            expected = differentiate(by_rows, *inputs, **kwargs)
            assert actual.shape == (5, )
            assert_near(actual, expected[0])
            assert_near(gradient, expected[1])


@on_every_loss
def test_equals_plain(name):
    function, plain, _ = LOSSES[name]
    for tau, classes in product(TAUS, [2, 3, 50]):
        with case(tau=tau, classes=classes):
            kwargs = dict(PARAMETERS[name][0], tau=tau)
            inputs = make(3, 7, classes)
            actual = differentiate(function, *inputs, **kwargs)
            expected = differentiate(plain, *inputs, **kwargs)
            assert_near(actual[0], expected[0], 1e-14)
            assert_near(actual[1], expected[1], 1e-14)


@on_every_loss
def test_gradcheck(name):
    for parameters, classes in product(PARAMETERS[name], [2, 4]):
        with case(classes=classes, **parameters):
            student, teacher, labels = make(3, classes)
            assert torch.autograd.gradcheck(
                lambda logits: LOSSES[name].function(
                    logits, teacher, labels, tau=2., **parameters), student)


@on_every_loss
def test_takes_rows_in_any_shape(name):
    function = LOSSES[name].function
    student, teacher, labels = make(3, 4, 5)
    losses = function(student, teacher, labels)
    assert losses.shape == (3, 4)
    for row in product(range(3), range(4)):
        with case(row=row):
            loss = function(student[row], teacher[row], labels[row])
            assert loss.shape == ()
            assert_near(losses[row], loss, 1e-13)


@on_every_loss
def test_takes_no_rows(name):
    for shape in [(0, 5), (2, 0, 5)]:
        student, teacher, labels = make(*shape)
        rows = LOSSES[name].function(student, teacher, labels)
        assert rows.shape == shape[:-1]
        rows.sum().backward()
        assert student.grad.shape == shape


@on_every_loss
def test_takes_any_memory_layout(name):
    student, teacher, labels = make(3, 4, 5)
    expected = differentiate(LOSSES[name].function, student, teacher, labels)
    other = [
        tensor.detach().transpose(0, 2).contiguous().transpose(0, 2)
        for tensor in (student, teacher)
    ]
    other = other[0].requires_grad_(), other[1], labels.T.contiguous().T
    assert not any(tensor.is_contiguous() for tensor in other)
    for one, two in zip(
            differentiate(LOSSES[name].function, *other), expected):
        assert_near(one, two, 1e-15)


@on_every_loss
def test_leaves_its_inputs_alone(name):
    inputs = make(3, 4, 5)
    before = [tensor.detach().clone() for tensor in inputs]
    differentiate(LOSSES[name].function, *inputs)
    for one, other in zip(inputs, before):
        assert torch.equal(one, other)


@on_every_loss
def test_no_gradient_flows_into_the_teacher(name):
    student, teacher, labels = make(4, 5)
    teacher.requires_grad_()
    LOSSES[name].function(student, teacher, labels).sum().backward()
    assert teacher.grad is None and student.grad is not None


@on_every_loss
def test_needs_no_student_to_train(name):
    function = LOSSES[name].function
    student, teacher, labels = make(4, 5)
    expected = function(student, teacher, labels).detach()
    rows = function(student.detach(), teacher, labels)
    assert not rows.requires_grad and torch.equal(rows, expected)
    with torch.no_grad():
        assert torch.equal(function(student, teacher, labels), expected)
    with torch.inference_mode():
        assert torch.equal(function(student, teacher, labels), expected)


@on_every_loss
def test_is_differentiated_through_one_graph_twice(name):
    student, teacher, labels = make(4, 5)
    loss = LOSSES[name].function(student, teacher, labels).sum()
    first, = torch.autograd.grad(loss, student, retain_graph=True)
    again, = torch.autograd.grad(loss, student)
    assert torch.equal(first, again)


@on_every_loss
@pytest.mark.long
def test_compiles_in_one_graph(name):
    function, inputs = LOSSES[name].function, make(6, 5)
    compiled = torch.compile(function, backend='aot_eager', fullgraph=True)
    for one, other in zip(
            differentiate(compiled, *inputs), differentiate(function,
                                                            *inputs)):
        assert_near(one, other, 1e-14)


def test_by_hand():
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


def test_dkd_decouples_kd():
    # Equation 7 of Zhao et al. (2022): KD = TCKD + (1 - p_y) NCKD.
    student, teacher, labels = make(6, 5)
    for tau in TAUS:
        p = (teacher / tau).softmax(-1).gather(-1, labels[:, None])[:, 0]
        tckd = dkd_loss(student, teacher, labels, 1., 0., tau)
        nckd = dkd_loss(student, teacher, labels, 0., 1., tau)
        assert_near(tckd + (1 - p) * nckd, kd_loss(student, teacher, tau),
                    1e-13)


def test_nkd_is_a_cross_entropy():
    _, teacher, labels = make(6, 5)
    q = teacher.softmax(-1)
    expected = q.gather(-1, labels[:, None]) * (q - F.one_hot(labels, 5))
    student = teacher.clone().requires_grad_()
    for tau, keep_target in product(TAUS, [True, False]):
        with case(tau=tau, keep_target=keep_target):
            loss = nkd_loss(
                student, teacher, labels, tau=tau, keep_target=keep_target)
            assert (loss > 0).all()
            gradient, = torch.autograd.grad(loss.sum(), student)
            assert_near(gradient, expected, 1e-12)


@on_every_loss_with_label
def test_scores_act_through_their_argmax(name):
    student, teacher, labels = make(4, 3, 5)
    expected = WITH_LABEL[name](student, teacher, labels)
    one_hot = F.one_hot(labels, 5)
    for scores in [
            one_hot,
            one_hot.bool(),
            one_hot.double(), 0.9 * one_hot + 0.02
    ]:
        assert torch.equal(WITH_LABEL[name](student, teacher, scores),
                           expected)


@on_every_loss_with_label
def test_labels_may_be_any_integers(name):
    student, teacher, labels = make(4, 5)
    expected = WITH_LABEL[name](student, teacher, labels)
    for dtype in (torch.uint8, torch.int32):
        rows = WITH_LABEL[name](student, teacher, labels.to(dtype))
        assert torch.equal(rows, expected), dtype


def test_defaults():
    student, teacher, labels = inputs = make(4, 5)
    assert torch.equal(
        kd_loss(student, teacher), kd_loss(student, teacher, 4.))
    assert torch.equal(dkd_loss(*inputs), dkd_loss(*inputs, 1., 8., 4.))
    assert torch.equal(
        nkd_loss(*inputs), nkd_loss(*inputs, 1.5, 1., keep_target=False))


def test_arguments_may_be_named():
    student, teacher, labels = make(4, 5)
    rows = dict(student=student, teacher=teacher)
    assert torch.equal(kd_loss(**rows), kd_loss(student, teacher))
    for name, function in WITH_LABEL.items():
        named = function(target=labels, **rows)
        assert torch.equal(named, function(student, teacher, labels)), name


@on_every_loss
def test_refuses_tau(name):
    for tau in [0, 0., -1., math.nan, math.inf]:
        with case(tau=tau), pytest.raises(
                ValueError,
                match=f'tau must be positive and finite, got {tau!r}'):
            LOSSES[name].function(*make(4, 5), tau=tau)


@on_every_loss
def test_refuses_logits_of_two_shapes(name):
    student, teacher, labels = make(4, 5)
    for other in [teacher[:3], teacher[:, :4], teacher[0], teacher[None]]:
        with case(shape=other.shape), pytest.raises(
                ValueError, match=r'one shape \(\.\.\., K\), got'):
            LOSSES[name].function(student, other, labels)


@on_every_loss
def test_refuses_fewer_than_two_classes(name):
    for shape in [(), (4, 1), (4, 0)]:
        logits = torch.zeros(shape)
        labels = torch.zeros(shape[:-1], dtype=torch.long)
        with case(shape=shape), pytest.raises(
                ValueError, match='at least 2 classes'):
            LOSSES[name].function(logits, logits, labels)


@on_every_loss_with_label
def test_refuses_target_of_wrong_shape(name):
    student, teacher, _ = make(4, 5)
    for shape in [(), (3, ), (1, 4), (4, 4), (4, 1), (2, 4)]:
        target = torch.zeros(shape, dtype=torch.long)
        with case(shape=shape), pytest.raises(
                ValueError, match=r'target must have shape \(4,\)'):
            WITH_LABEL[name](student, teacher, target)


@on_every_loss_with_label
def test_refuses_labels_that_are_not_integers(name):
    student, teacher, labels = make(4, 5)
    for wrong in [labels.float(), labels.bool()]:
        with case(dtype=wrong.dtype), pytest.raises(
                ValueError, match='labels must be integers'):
            WITH_LABEL[name](student, teacher, wrong)
