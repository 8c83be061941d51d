# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 9 and 10: which cells count how much, and their sum."""
from functools import partial
from itertools import product

import pytest
import torch
from literal import decoupled_loss, pooling, row_losses
from literal.tensors import assert_near, scalars, stacked
from test_functional.cases import FIDELITIES, LOSSES, POOLINGS, case, kd

from sdd_mm.functional import cell_weights, local_logits, scale_decoupled_loss
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
CONSISTENCIES = ['label', 'class']
REDUCTIONS = ['mean', 'sum', 'none']
WEIGHTINGS = list(product(CONSISTENCIES, REDUCTIONS))
PARAMETERS = {
    'kd': dict(tau=4.),
    'dkd': dict(alpha=1., beta=8., tau=4.),
    'nkd': dict(gamma=1.5, tau=2.),
    'nkd-kept': dict(gamma=1.5, tau=2.),
}
CRITERIA = {
    name: [
        partial(function, **PARAMETERS[name])
        for function in (loss.function, loss.literal)
    ]
    for name, loss in LOSSES.items()
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


def networks(setting, classes):
    """Map, weight and perhaps bias of student and teacher."""
    size_s, channels_s, size_t, channels_t, scales, bias = setting
    for seed, channels, size in [(1, channels_s, size_s),
                                 (2, channels_t, size_t)]:
        shapes = (2, channels, *size), (classes, channels), (classes, )
        yield [random(*shape, seed=seed) for shape in shapes[:2 + bias]]


def assert_equals_literal(setting, classes, pool, weightings):
    """Values, and gradients by the student's local logits.

    Those by its map, weight and bias are compared once, for the sum of all
    losses.
    """
    student, teacher = networks(setting, classes)
    for tensor in student:
        tensor.requires_grad_()
    logits, literal_logits = ([
        function(*network, scales=setting[4], pooling=pool)
        for network in (student, teacher)
    ] for function in (local_logits, pooling.local_logits))
    leaf = literal_logits[0].detach().requires_grad_()
    labels = torch.tensor([classes - 1, 0])
    total, total_slope = 0., 0.
    for (name, (fast, slow)), options in product(CRITERIA.items(), weightings):
        options = (0.7, 2.5, *options)
        actual = scale_decoupled_loss(*logits, labels, fast, *options)
        expected = decoupled_loss.equation_10(leaf, literal_logits[1],
                                              labels.tolist(), slow, *options)
        slope, = torch.autograd.grad(expected.sum(), leaf)
        with case(classes=classes, pooling=pool, loss=name, options=options):
            assert_near(actual, expected)
            assert_near(
                torch.autograd.grad(
                    actual.sum(), logits[0], retain_graph=True)[0], slope)
        total, total_slope = total + actual.sum(), total_slope + slope
    with case(classes=classes, pooling=pool):
        for one, other in zip(
                torch.autograd.grad(total, student),
                torch.autograd.grad(literal_logits[0], student, total_slope)):
            assert_near(one, other)


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
def test_fidelities_equal_literal(setting):
    for classes, (pool, *weighting) in product([2, 3, 5], FIDELITIES.values()):
        assert_equals_literal(setting, classes, pool, [weighting])


@pytest.mark.parametrize('pool', POOLINGS)
def test_options_are_orthogonal(pool):
    setting = (5, 7), 2, (7, 7), 3, (1, 2, 3), True
    assert_equals_literal(setting, 3, pool, WEIGHTINGS)


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


def test_weights_by_hand():
    teacher, label = teacher_saying(CELLS), torch.tensor([1])
    for consistency, expected in COMPLEMENTARY.items():
        mask = torch.tensor(expected).bool()[:, None]
        with case(consistency=consistency):
            assert torch.equal(
                complementary_cells(teacher, label, consistency), mask)
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


def test_weights_equal_literal():
    _, teacher, labels = make(cells=9, batch=8)
    for consistency, image in product(CONSISTENCIES,
                                      [None, random(8, 3, seed=1)]):
        options = consistency, 0.5, 3., image
        actual = cell_weights(teacher, labels, *options)
        expected = decoupled_loss.weights(teacher, labels.tolist(), *options)
        with case(options=options):
            assert len(expected.unique()) == 2
            assert torch.equal(actual, expected)
            assert not actual.requires_grad


def test_loss_with_global_logits_equals_literal():
    # Equation 4 for a scale set without 1: the true global logits.
    feature, weight = random(2, 2, 5, 5), random(3, 2)
    image = pooling.local_logits(feature, weight, None, (1, ), 'direct')[0]
    teacher = local_logits(feature, weight, None, (2, 3))
    student, labels = make(13, 2)[0], torch.tensor([2, 0])
    fast, slow = CRITERIA['dkd']
    for options in WEIGHTINGS:
        options = (1., 2., *options, image)
        with case(options=options):
            assert_near(
                scale_decoupled_loss(student, teacher, labels, fast, *options),
                decoupled_loss.equation_10(student, teacher, labels.tolist(),
                                           slow, *options))


def test_equal_weights_give_equation_9():
    student, teacher, labels = make()
    rows = stacked([[
        row_losses.kd(*pair, None, tau=4.)
        for pair in zip(*map(scalars, (student[n], teacher[n])))
    ] for n in range(5)])
    for reduction in ('mean', 'sum'):
        with case(reduction=reduction):
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
    assert loss(reduction='none').tolist() == 3 * [[1., 1.]] + 3 * [[2., 2.]]


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


def test_refuses_a_criterion_without_one_loss_per_row():
    for wrong in [
            lambda student, *_: student.mean(), lambda student, *_: student,
            lambda student, *_: student.sum((0, 2))
    ]:
        with pytest.raises(ValueError, match=r'one loss per cell and sample'):
            scale_decoupled_loss(*make(), wrong)


def test_scores_act_through_their_argmax():
    student, teacher, labels = make()
    one_hot = torch.nn.functional.one_hot(labels, 3)
    for name, (_, consistency, reduction) in product(CRITERIA,
                                                     FIDELITIES.values()):

        def loss(target):
            return scale_decoupled_loss(
                student,
                teacher,
                target,
                CRITERIA[name][0],
                consistency=consistency,
                reduction=reduction)

        for scores in [one_hot, one_hot.double(), 0.9 * one_hot + 0.03]:
            with case(loss=name, consistency=consistency, dtype=scores.dtype):
                assert torch.equal(loss(scores), loss(labels))
                assert torch.equal(
                    cell_weights(teacher, scores, consistency),
                    cell_weights(teacher, labels, consistency))


def test_gradcheck():
    student, teacher, labels = make(cells=3, batch=2)
    for name, options in product(CRITERIA, WEIGHTINGS):
        with case(loss=name, options=options):
            assert torch.autograd.gradcheck(
                lambda logits: scale_decoupled_loss(
                    logits, teacher, labels, CRITERIA[name][
                        0], 1., 2., *options), student)


def test_refuses_choice():
    for name, value in product(['consistency', 'reduction'],
                               ['global', '', None]):
        with case(
                name=name, value=value), pytest.raises(
                    ValueError, match=f'{name} must be one of .*{value!r}'):
            scale_decoupled_loss(*make(), kd, **{name: value})
    with pytest.raises(ValueError, match="consistency must be .*'global'"):
        cell_weights(*make()[1:], 'global')


def test_refuses_logits_of_two_shapes():
    student, teacher, labels = make()
    for other in [teacher[:4], teacher[:, :3], teacher[..., :2], teacher[0]]:
        with case(shape=other.shape), pytest.raises(
                ValueError, match=r'one shape \(\.\.\., K\), got'):
            scale_decoupled_loss(student, other, labels, kd)


def test_refuses_one_class():
    with pytest.raises(ValueError, match='at least 2 classes'):
        scale_decoupled_loss(*make(classes=1), kd)


def assert_refused(message, *args, **kwargs):
    """The loss and the weights of the same tensors are refused."""
    with pytest.raises(ValueError, match=message):
        scale_decoupled_loss(*args, kd, **kwargs)
    with pytest.raises(ValueError, match=message):
        cell_weights(*args[1:], **kwargs)


def test_refuses_logits_that_are_not_local():
    student, teacher, labels = make()
    for wrong in [(0, ), (None, )]:
        with case(index=wrong):
            assert_refused(r'shape \(N, B, K\)', student[wrong],
                           teacher[wrong], labels)


def test_refuses_an_empty_batch_and_no_cell():
    for shape, reduction in product([(5, 0, 3), (0, 4, 3)], REDUCTIONS):
        logits = torch.zeros(shape)
        labels = torch.zeros(shape[1], dtype=torch.long)
        with case(
                shape=shape, reduction=reduction), pytest.raises(
                    ValueError, match='at least one cell and one sample'):
            scale_decoupled_loss(
                logits, logits, labels, kd, reduction=reduction)


def test_refuses_targets():
    student, teacher, labels = make()
    for shape in [(), (3, ), (5, 4), (1, 4), (4, 2)]:
        with case(shape=shape):
            assert_refused(r'target must have shape \(4,\)', student, teacher,
                           torch.zeros(shape, dtype=torch.long))
    assert_refused('labels must be integers', student, teacher,
                   labels.double())


def test_refuses_global_logits_of_wrong_shape():
    for shape in [(3, ), (4, 2), (1, 4, 3)]:
        with case(shape=shape):
            assert_refused(
                r'must have shape \(4, 3\), got',
                *make(),
                global_logits=torch.zeros(shape))
