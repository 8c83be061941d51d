# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 9 and 10: which cells count how much, and their sum."""
from functools import partial
from itertools import product

import pytest
import torch
from literal import decoupled_loss, pooling, row_losses
from literal.tensors import assert_near, scalars, stacked

from sdd_mm.functional import (cell_weights, dkd_loss, kd_loss, local_logits,
                               nkd_loss, scale_decoupled_loss)
from sdd_mm.functional.scale_decoupled import complementary_cells

# Student's map, its channels, teacher's map, its channels, M, bias.
SETTINGS = [
    ((1, 1), 2, (2, 2), 3, (1, ), True),
    ((2, 2), 3, (4, 4), 2, (1, 2), False),
    ((4, 4), 2, (8, 8), 2, (1, 2, 4), True),
    ((5, 7), 3, (3, 10), 1, (2, ), False),
    ((7, 7), 2, (7, 7), 2, (4, 1), True),
    ((3, 10), 1, (5, 7), 3, (3, ), False),
    ((8, 8), 2, (4, 4), 2, (1, 3, 5), True),
    ((4, 4), 3, (1, 1), 2, (8, ), False),
]
FIDELITIES = {
    'reference': ('hierarchical', 'label', 'mean'),
    'paper': ('direct', 'class', 'sum'),
}
WEIGHTINGS = list(product(['label', 'class'], ['mean', 'sum']))


def kd(student, teacher, label, loss=kd_loss):
    """KD, which has no use for the label."""
    return loss(student, teacher, tau=4.)


CRITERIA = {
    'kd': (kd, partial(kd, loss=row_losses.kd)),
    'dkd': [
        partial(function, alpha=1., beta=8., tau=4.)
        for function in (dkd_loss, row_losses.dkd)
    ],
    'nkd': [
        partial(function, gamma=1.5, tau=2.)
        for function in (nkd_loss, row_losses.nkd)
    ],
    'nkd-kept': [
        partial(function, gamma=1.5, tau=2., keep_target=True)
        for function in (nkd_loss, row_losses.nkd)
    ],
}

# One sample and five cells, class 1 being right: the teacher says ...
CELLS = [2, 1, 2, 0, 1]
COMPLEMENTARY = {
    'label': [0, 1, 0, 0, 1],
    'class': [0, 1, 0, 1, 1],
}


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def make(cells=5, batch=4, classes=3):
    """Local logits of student and teacher, and labels."""
    student, teacher = 2 * random(2, cells, batch, classes)
    return student.requires_grad_(), teacher, torch.arange(batch) % classes


def teacher_saying(classes):
    """Local logits of one sample, (N, 1, 3), with these largest classes."""
    return torch.eye(3)[classes][:, None]


def assert_equals_literal(setting, classes, criterion, options):
    """Values, and gradients through the student's map, weight and bias."""
    size_s, channels_s, size_t, channels_t, scales, bias = setting
    pool, consistency, reduction = options
    fast, slow = CRITERIA[criterion]
    shapes = (2, channels_s, *size_s), (classes, channels_s), (classes, )
    inputs = [random(*shape, seed=1) for shape in shapes[:2 + bias]]
    shapes = (2, channels_t, *size_t), (classes, channels_t), (classes, )
    teacher = [random(*shape, seed=2) for shape in shapes[:2 + bias]]
    for tensor in inputs:
        tensor.requires_grad_()
    labels = torch.tensor([classes - 1, 0])
    beta, gamma = 0.7, 2.5

    actual = scale_decoupled_loss(
        local_logits(*inputs, scales=scales, pooling=pool),
        local_logits(*teacher, scales=scales, pooling=pool), labels, fast,
        beta, gamma, consistency, reduction)
    expected = decoupled_loss.equation_10(
        pooling.local_logits(*inputs, scales=scales, pooling=pool),
        pooling.local_logits(*teacher, scales=scales, pooling=pool),
        labels.tolist(), slow, beta, gamma, consistency, reduction)
    assert_near(actual, expected)
    for one, other in zip(
            torch.autograd.grad(actual, inputs),
            torch.autograd.grad(expected, inputs)):
        assert_near(one, other)


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('fidelity', FIDELITIES)
@pytest.mark.parametrize('classes', [2, 3, 10])
@pytest.mark.parametrize('setting', SETTINGS, ids=str)
def test_fidelity_equals_literal(setting, classes, fidelity, criterion):
    assert_equals_literal(setting, classes, criterion, FIDELITIES[fidelity])


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('pool', ['hierarchical', 'direct'])
@pytest.mark.parametrize('weighting', WEIGHTINGS, ids=str)
def test_options_are_orthogonal(weighting, pool, criterion):
    setting = (5, 7), 2, (7, 7), 3, (1, 2, 3), True
    assert_equals_literal(setting, 3, criterion, (pool, *weighting))


def test_defaults_are_the_released_ones():
    student, teacher, labels = make()
    assert torch.equal(
        scale_decoupled_loss(student, teacher, labels, kd),
        scale_decoupled_loss(student, teacher, labels, kd, 1., 2., 'label',
                             'mean', teacher[0]))
    assert torch.equal(
        cell_weights(teacher, labels),
        cell_weights(teacher, labels, 'label', 1., 2., teacher[0]))


def test_arguments_may_be_named():
    student, teacher, labels = make()
    named = scale_decoupled_loss(
        student=student, teacher=teacher, target=labels, criterion=kd)
    assert named == scale_decoupled_loss(student, teacher, labels, kd)
    named = cell_weights(teacher=teacher, target=labels)
    assert torch.equal(named, cell_weights(teacher, labels))


@pytest.mark.parametrize('consistency', COMPLEMENTARY)
def test_weights_by_hand(consistency):
    teacher, label = teacher_saying(CELLS), torch.tensor([1])
    mask = torch.tensor(COMPLEMENTARY[consistency]).bool()[:, None]
    assert torch.equal(complementary_cells(teacher, label, consistency), mask)
    weights = cell_weights(teacher, label, consistency, 0.5, 3.)
    assert weights.tolist() == torch.where(mask, 3., 0.5).tolist()


@pytest.mark.parametrize('consistency, image, expected', [
    ('label', 1, [1, 0, 1, 1, 0]),
    ('label', 0, [0, 1, 0, 0, 1]),
    ('class', 1, [1, 0, 1, 1, 0]),
    ('class', 0, [1, 1, 1, 0, 1]),
])
def test_given_global_logits_replace_the_first_cell(consistency, image,
                                                    expected):
    teacher, label = teacher_saying(CELLS), torch.tensor([1])
    image = torch.eye(3)[[image]]
    mask = complementary_cells(teacher, label, consistency, image)
    assert mask.int().flatten().tolist() == expected
    weights = cell_weights(teacher, label, consistency, 0., 1., image)
    assert weights.flatten().tolist() == expected


@pytest.mark.parametrize('given', [True, False])
@pytest.mark.parametrize('consistency', ['label', 'class'])
def test_weights_equal_literal(consistency, given):
    _, teacher, labels = make(cells=9, batch=8)
    image = random(8, 3, seed=1) if given else None
    actual = cell_weights(teacher, labels, consistency, 0.5, 3., image)
    expected = decoupled_loss.weights(teacher, labels.tolist(), consistency,
                                      0.5, 3., image)
    assert len(expected.unique()) == 2
    assert torch.equal(actual, expected)
    assert not actual.requires_grad


@pytest.mark.parametrize('options', WEIGHTINGS, ids=str)
def test_loss_with_global_logits_equals_literal(options):
    # Equation 4 for a scale set without 1: the true global logits.
    feature, weight = random(2, 2, 5, 5), random(3, 2)
    image = pooling.local_logits(feature, weight, None, (1, ), 'direct')[0]
    teacher = local_logits(feature, weight, None, (2, 3))
    student, labels = make(13, 2)[0], torch.tensor([2, 0])
    fast, slow = CRITERIA['dkd']
    assert_near(
        scale_decoupled_loss(student, teacher, labels, fast, 1., 2., *options,
                             image),
        decoupled_loss.equation_10(student, teacher, labels.tolist(), slow, 1.,
                                   2., *options, image))


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_equal_weights_give_equation_9(reduction):
    student, teacher, labels = make()
    rows = stacked([[
        row_losses.kd(*pair, tau=4.)
        for pair in zip(*map(scalars, (student[n], teacher[n])))
    ] for n in range(5)])
    assert_near(
        scale_decoupled_loss(
            student, teacher, labels, kd, 1., 1., reduction=reduction),
        decoupled_loss.equation_9(rows, reduction))


def test_reductions_by_hand():
    # Six cells of two samples that cost 1 each, the last three twice.
    teacher = teacher_saying([0, 0, 0, 1, 1, 1]).repeat(1, 2, 1)
    labels = torch.tensor([0, 0])

    def one(student, teacher, label):
        return torch.ones(label.shape)

    loss = partial(scale_decoupled_loss, teacher, teacher, labels, one)
    assert loss(reduction='mean') == 1.5
    assert loss(reduction='sum') == 9.
    assert loss(consistent_weight=0., reduction='sum') == 6.
    assert loss(complementary_weight=0., reduction='sum') == 3.


def test_criterion_sees_every_row_with_its_label():
    student, teacher, labels = make(cells=5, batch=4)
    seen = []

    def criterion(*rows):
        seen.extend(rows)
        return rows[0].sum(-1)

    scale_decoupled_loss(student, teacher, labels, criterion)
    assert torch.equal(seen[0], student)
    assert torch.equal(seen[1], teacher)
    assert torch.equal(seen[2], labels.repeat(5, 1))


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('fidelity', FIDELITIES)
def test_scores_act_through_their_argmax(fidelity, criterion):
    student, teacher, labels = make()
    _, consistency, reduction = FIDELITIES[fidelity]

    def loss(target):
        return scale_decoupled_loss(
            student,
            teacher,
            target,
            CRITERIA[criterion][0],
            consistency=consistency,
            reduction=reduction)

    one_hot = torch.nn.functional.one_hot(labels, 3)
    for scores in [one_hot, one_hot.double(), 0.9 * one_hot + 0.03]:
        assert torch.equal(loss(scores), loss(labels))
        assert torch.equal(
            cell_weights(teacher, scores, consistency),
            cell_weights(teacher, labels, consistency))


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('options', WEIGHTINGS, ids=str)
def test_gradcheck(options, criterion):
    student, teacher, labels = make(cells=3, batch=2)

    def loss(student, teacher):
        return scale_decoupled_loss(student, teacher, labels,
                                    CRITERIA[criterion][0], 1., 2., *options)

    assert torch.autograd.gradcheck(loss, (student, teacher.requires_grad_()))


@pytest.mark.parametrize('name', ['consistency', 'reduction'])
@pytest.mark.parametrize('value', ['none', '', None], ids=str)
def test_refuses_choice(value, name):
    with pytest.raises(ValueError, match=f'{name} must be one of .*{value!r}'):
        scale_decoupled_loss(*make(), kd, **{name: value})


def test_weights_refuse_consistency():
    _, teacher, labels = make()
    with pytest.raises(ValueError, match="consistency must be .*'global'"):
        cell_weights(teacher, labels, 'global')


def test_refuses_logits_of_two_shapes():
    student, teacher, labels = make()
    for other in [teacher[:4], teacher[:, :3], teacher[..., :2], teacher[0]]:
        with pytest.raises(ValueError, match=r'one shape \(\.\.\., K\), got'):
            scale_decoupled_loss(student, other, labels, kd)


def test_refuses_logits_that_are_not_local():
    student, teacher, labels = make()
    for wrong in [(0, ), (None, )]:
        with pytest.raises(ValueError, match=r'shape \(N, B, K\)'):
            scale_decoupled_loss(student[wrong], teacher[wrong], labels, kd)
        with pytest.raises(ValueError, match=r'shape \(N, B, K\)'):
            cell_weights(teacher[wrong], labels)


def test_refuses_one_class():
    student, teacher, labels = make(classes=1)
    with pytest.raises(ValueError, match='at least 2 classes'):
        scale_decoupled_loss(student, teacher, labels, kd)


@pytest.mark.parametrize('shape', [(5, 0, 3), (0, 4, 3)], ids=str)
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_refuses_an_empty_batch_and_no_cell(reduction, shape):
    logits = torch.zeros(shape)
    labels = torch.zeros(shape[1], dtype=torch.long)
    with pytest.raises(ValueError, match='at least one cell and one sample'):
        scale_decoupled_loss(logits, logits, labels, kd, reduction=reduction)


@pytest.mark.parametrize('shape', [(), (3, ), (5, 4), (1, 4), (4, 2)], ids=str)
def test_refuses_target_of_wrong_shape(shape):
    student, teacher, _ = make()
    target = torch.zeros(shape, dtype=torch.long)
    with pytest.raises(ValueError, match=r'target must have shape \(4,\)'):
        scale_decoupled_loss(student, teacher, target, kd)
    with pytest.raises(ValueError, match=r'target must have shape \(4,\)'):
        cell_weights(teacher, target)


def test_refuses_float_labels():
    student, teacher, labels = make()
    with pytest.raises(ValueError, match='labels must be integers'):
        scale_decoupled_loss(student, teacher, labels.double(), kd)
    with pytest.raises(ValueError, match='labels must be integers'):
        cell_weights(teacher, labels.double())


@pytest.mark.parametrize('shape', [(3, ), (4, 2), (1, 4, 3)], ids=str)
def test_refuses_global_logits_of_wrong_shape(shape):
    student, teacher, labels = make()
    image = torch.zeros(shape)
    with pytest.raises(ValueError, match=r'must have shape \(4, 3\), got'):
        scale_decoupled_loss(student, teacher, labels, kd, global_logits=image)
    with pytest.raises(ValueError, match=r'must have shape \(4, 3\), got'):
        cell_weights(teacher, labels, global_logits=image)
