# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 4 to 7: pooling, classifier, cell order and refusals."""
import pytest
import torch
from literal import pooling as literal
from literal.tensors import assert_near

from sdd_mm.functional import local_logits
from sdd_mm.functional.local_logits import pool_cells

SIZES = [(1, 1), (2, 2), (4, 4), (5, 7), (7, 7), (8, 8), (3, 10)]
SCALES = [(1, ), (1, 2), (1, 2, 4), (2, ), (4, 1), (3, ), (1, 3, 5), (8, )]
POOLINGS = ['hierarchical', 'direct']


def make(size, classes, channels, bias, batch=2):
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, channels, *size), (classes, channels)]
    if bias:
        shapes.append((classes, ))
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    ]
    return [tensor.requires_grad_() for tensor in tensors]


def assert_equals_literal(inputs, scales, pooling):
    """Values, and gradients through feature, weight and bias."""
    actual = local_logits(*inputs, scales=scales, pooling=pooling)
    expected = literal.local_logits(*inputs, scales=scales, pooling=pooling)
    assert_near(actual, expected)
    direction = torch.randn(
        actual.shape,
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64)
    for one, other in zip(
            torch.autograd.grad(actual, inputs, direction),
            torch.autograd.grad(expected, inputs, direction)):
        assert_near(one, other)


@pytest.mark.parametrize('pooling', POOLINGS)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('scales', SCALES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_equals_literal(size, scales, bias, pooling):
    assert_equals_literal(make(size, 2, 2, bias), scales, pooling)


@pytest.mark.parametrize('pooling', POOLINGS)
@pytest.mark.parametrize('classes', [2, 3, 10])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_equals_literal_at_any_width(channels, classes, pooling):
    inputs = make((3, 5), classes, channels, bias=True)
    assert_equals_literal(inputs, (1, 2, 4), pooling)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_direct_scale_1_is_global_average_pooling(size):
    feature, weight, bias = make(size, 3, 4, bias=True)
    logits = local_logits(feature, weight, bias, (1, ), 'direct')
    head = torch.nn.functional.linear(feature.mean((2, 3)), weight, bias)
    assert_near(logits[0], head, 1e-14)


def test_hierarchical_global_cell_weighs_positions_unequally_on_7x7():
    # Bins 0-1, 1-3, 3-5 and 5-6: a position counts 1/2 or 1/3 of its bins.
    feature, weight = make((7, 7), 2, 1, bias=False, batch=1)
    cell = pool_cells(feature, (1, ), 'hierarchical')
    gradient, = torch.autograd.grad(cell.sum(), feature)
    side = torch.tensor([1 / 2, 5 / 6, 1 / 3, 2 / 3, 1 / 3, 5 / 6, 1 / 2],
                        dtype=torch.float64) / 4
    assert_near(gradient[0, 0], side[:, None] * side, 1e-14)


def test_direct_2x2_cells_overlap_on_5x5():
    feature = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    feature[..., 2, 2] = 9.
    cells = pool_cells(feature, (2, ), 'direct')
    assert cells.flatten().tolist() == [1., 1., 1., 1.]


@pytest.mark.parametrize(
    'size', [(1, 1), (2, 2), (4, 4), (8, 8), (4, 8)], ids=str)
def test_poolings_agree_where_bins_do_not_overlap(size):
    inputs = make(size, 3, 2, bias=True)
    direct, hierarchical = (
        local_logits(*inputs, pooling=pooling) for pooling in POOLINGS)
    assert_near(hierarchical, direct, 1e-14)


@pytest.mark.parametrize('size', [(5, 7), (7, 7), (3, 10)], ids=str)
def test_poolings_differ_where_bins_overlap(size):
    inputs = make(size, 3, 2, bias=True)
    direct, hierarchical = (
        local_logits(*inputs, pooling=pooling) for pooling in POOLINGS)
    assert (hierarchical[0] - direct[0]).abs().max() > 1e-2
    assert torch.equal(hierarchical[5:], direct[5:])


@pytest.mark.parametrize('pooling', POOLINGS)
def test_cells_come_scale_by_scale_as_given_and_row_major(pooling):
    # A 4 x 4 map that holds 10 row + column.
    row, column = torch.meshgrid(
        torch.arange(4.), torch.arange(4.), indexing='ij')
    feature = (10 * row + column)[None, None]
    cells = pool_cells(feature, (4, 1, 2), pooling)
    assert cells.shape == (21, 1, 1)
    assert cells.flatten().tolist() == [
        0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33, 16.5, 5.5,
        7.5, 25.5, 27.5
    ]


def test_defaults_are_the_released_ones():
    inputs = make((7, 5), 3, 2, bias=True)
    stated = local_logits(*inputs, (1, 2, 4), 'hierarchical')
    assert torch.equal(local_logits(*inputs), stated)


def test_arguments_may_be_named():
    feature, weight, bias = make((2, 2), 3, 2, bias=True)
    assert torch.equal(
        local_logits(feature=feature, weight=weight, bias=bias),
        local_logits(feature, weight, bias))


@pytest.mark.parametrize('pooling', POOLINGS)
def test_gradcheck(pooling):
    inputs = make((5, 3), 2, 2, bias=True, batch=1)

    def function(feature, weight, bias):
        return local_logits(feature, weight, bias, (1, 2, 3), pooling)

    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize(
    'scales', [(), [], (0, ), (1, -2), (True, ), (1., ),
               ('2', ), '124', 4, None, {1, 2}],
    ids=str)
def test_refuses_scales(scales):
    inputs = make((4, 4), 3, 2, bias=True)
    with pytest.raises(ValueError, match='scales must be a non-empty tuple'):
        local_logits(*inputs, scales=scales)
    with pytest.raises(ValueError, match='scales must be a non-empty tuple'):
        pool_cells(inputs[0], scales)


def test_refuses_pooling():
    inputs = make((4, 4), 3, 2, bias=True)
    with pytest.raises(ValueError, match="pooling must be one of .*'spp'"):
        local_logits(*inputs, pooling='spp')


@pytest.mark.parametrize('shape', [(2, 4), (2, 4, 4), (1, 2, 4, 4, 4)])
def test_refuses_feature_that_is_no_map(shape):
    with pytest.raises(ValueError, match=r'shape \(B, C, h, w\), got shape'):
        local_logits(torch.zeros(shape), torch.zeros(3, 4))


@pytest.mark.parametrize('shape', [(3, ), (3, 5), (2, 3), (3, 2, 1, 1)])
def test_refuses_weight(shape):
    with pytest.raises(ValueError, match=r'weight must have shape \(K, C\)'):
        local_logits(torch.zeros(1, 2, 4, 4), torch.zeros(shape))


@pytest.mark.parametrize('shape', [(), (2, ), (1, ), (3, 1)])
def test_refuses_bias(shape):
    with pytest.raises(ValueError, match=r'bias must have shape \(3,\), got'):
        local_logits(
            torch.zeros(1, 2, 4, 4), torch.zeros(3, 2), torch.zeros(shape))
