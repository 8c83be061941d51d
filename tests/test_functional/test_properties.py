# Copyright (c) sdd_mm contributors. All rights reserved.
"""What holds for every input, on generated ones."""
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from literal.tensors import assert_near
from test_functional.cases import LOSSES, POOLINGS, kd

from sdd_mm.functional import (cell_weights, dkd_loss, local_logits,
                               scale_decoupled_loss)
from sdd_mm.functional.local_logits import pool_cells

examples = settings(
    max_examples=40, derandomize=True, deadline=None, database=None)

poolings = st.sampled_from(POOLINGS)
consistencies = st.sampled_from(['label', 'class'])
reductions = st.sampled_from(['mean', 'sum'])
criteria = st.sampled_from([loss.function for loss in LOSSES.values()])
scale_sets = st.lists(
    st.integers(1, 6), min_size=1, max_size=3, unique=True).map(tuple)
sides = st.integers(1, 9)


@st.composite
def networks(draw):
    """Feature maps, weights and biases of two networks, and labels."""
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    result = []
    for _ in range(2):
        channels, size = draw(st.integers(1, 4)), (draw(sides), draw(sides))
        shapes = (batch, channels, *size), (classes, channels), (classes, )
        result.append([
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in shapes
        ])
    labels = torch.randint(classes, (batch, ), generator=generator)
    return *result, labels


def sdd(student, teacher, labels, criterion, scales, pooling, *weighting):
    """From feature maps to the loss."""
    return scale_decoupled_loss(
        local_logits(*student, scales, pooling),
        local_logits(*teacher, scales, pooling), labels, criterion, 1., 2.,
        *weighting)


@examples
@given(networks(), scale_sets, poolings)
def test_shape_and_cell_order(networks, scales, pooling):
    student, _, _ = networks
    logits = local_logits(*student, scales, pooling)
    feature, weight, _ = student
    cells = sum(m * m for m in scales)
    assert logits.shape == (cells, len(feature), len(weight))
    first = 0
    for m in scales:
        scale = local_logits(*student, (m, ), pooling)
        assert_near(logits[first:first + m * m], scale, 1e-13)
        first += m * m
        # Transposing the map transposes the grid of each scale.
        transposed = local_logits(
            feature.transpose(2, 3), *student[1:], (m, ), pooling)
        assert_near(
            transposed.unflatten(0, (m, m)).transpose(0, 1).flatten(0, 1),
            scale, 1e-13)


@examples
@given(networks(), scale_sets, poolings)
def test_pooling_and_classifying_commute(networks, scales, pooling):
    (feature, weight, bias), _, _ = networks
    logit_map = F.conv2d(feature, weight[:, :, None, None], bias)
    assert_near(
        local_logits(feature, weight, bias, scales, pooling),
        pool_cells(logit_map, scales, pooling), 1e-12)


@examples
@given(networks(), criteria, consistencies, reductions)
def test_scale_1_alone_is_plain_distillation(networks, criterion, consistency,
                                             reduction):
    student, teacher, labels = networks
    logits = [
        F.linear(feature.mean((2, 3)), weight, bias)
        for feature, weight, bias in (student, teacher)
    ]
    assert_near(
        sdd(student, teacher, labels, criterion, (1, ), 'direct', consistency,
            reduction),
        criterion(*logits, labels).mean(), 1e-11)


@examples
@given(networks(), criteria, scale_sets, poolings, consistencies, reductions,
       st.randoms(use_true_random=False))
def test_order_of_classes_does_not_matter(networks, criterion, scales, pooling,
                                          consistency, reduction, random):
    student, teacher, labels = networks
    order = list(range(len(student[1])))
    random.shuffle(order)
    moved = [(feature, weight[order], bias[order])
             for feature, weight, bias in (student, teacher)]
    moved.append(torch.tensor(order).argsort()[labels])
    options = criterion, scales, pooling, consistency, reduction
    assert_near(
        sdd(*moved, *options), sdd(student, teacher, labels, *options), 1e-11)


@examples
@given(networks(), criteria, scale_sets, poolings, consistencies, reductions,
       st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(networks, criterion, scales, pooling,
                                          consistency, reduction, random):
    student, teacher, labels = networks
    order = list(range(len(labels)))
    random.shuffle(order)
    moved = [(feature[order], weight, bias)
             for feature, weight, bias in (student, teacher)]
    options = criterion, scales, pooling, consistency, reduction
    assert_near(
        sdd(*moved, labels[order], *options),
        sdd(student, teacher, labels, *options), 1e-11)


@examples
@given(networks(), st.sampled_from([kd, dkd_loss]), scale_sets, poolings,
       consistencies, reductions)
def test_divergences_vanish_at_equality_alone(networks, criterion, scales,
                                              pooling, consistency, reduction):
    student, teacher, labels = networks
    options = labels, criterion, scales, pooling, consistency, reduction
    assert sdd(teacher, teacher, *options).abs() < 1e-12
    assert sdd(student, teacher, *options) > 1e-9


@examples
@given(networks(), criteria, scale_sets, poolings, consistencies)
def test_equal_weights_give_the_mean_of_the_rows(networks, criterion, scales,
                                                 pooling, consistency):
    *pair, labels = networks
    student, teacher = (
        local_logits(*network, scales, pooling) for network in pair)
    rows = criterion(student, teacher, labels.expand(student.shape[:2]))
    for reduction, expected in [('mean', rows.mean()),
                                ('sum', rows.sum(0).mean()), ('none', rows)]:
        loss = scale_decoupled_loss(student, teacher, labels, criterion, 1.,
                                    1., consistency, reduction)
        assert_near(loss, expected, 1e-13)


@examples
@given(networks(), scale_sets, poolings, consistencies)
def test_weights_take_two_values_and_the_global_cell_is_consistent(
        networks, scales, pooling, consistency):
    _, teacher, labels = networks
    logits = local_logits(*teacher, scales, pooling)
    weights = cell_weights(logits, labels, consistency, 0.5, 3.)
    assert weights.shape == logits.shape[:2]
    assert set(weights.flatten().tolist()) <= {0.5, 3.}
    assert (weights[0] == 0.5).all()
    # 'label' implies 'class': if one of two is correct, they differ.
    label, class_ = (
        cell_weights(logits, labels, name, 0., 1.)
        for name in ('label', 'class'))
    assert (label <= class_).all()
