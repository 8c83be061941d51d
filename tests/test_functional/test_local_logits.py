# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 4 to 7: pooling, classifier, cell order and refusals."""
from itertools import product

import pytest
import torch
from literal import pooling as literal
from literal.tensors import assert_near
from test_functional.cases import POOLINGS, case

from sdd_mm.functional import local_logits
from sdd_mm.functional.local_logits import pool_cells

SIZES = [(1, 1), (2, 2), (4, 4), (5, 7), (7, 7), (8, 8), (3, 10)]
SCALES = [(1, ), (1, 2), (1, 2, 4), (2, ), (4, 1), (3, ), (1, 3, 5), (8, )]


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


def assert_equals_literal(inputs, grids):
    """Values, and gradients through feature, weight and bias."""
    maps = literal.logit_maps(*inputs)
    for scales, pooling in grids:
        actual = local_logits(*inputs, scales=scales, pooling=pooling)
        expected = literal.cells(maps, scales, pooling)
        direction = torch.randn(
            actual.shape,
            generator=torch.Generator().manual_seed(1),
            dtype=torch.float64)
        with case(
                shapes=[tuple(tensor.shape) for tensor in inputs],
                scales=scales,
                pooling=pooling):
            assert_near(actual, expected)
            for one, other in zip(*(torch.autograd.grad(
                    logits, inputs, direction, retain_graph=True)
                                    for logits in (actual, expected))):
                assert_near(one, other)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_equals_literal(size, bias):
    assert_equals_literal(
        make(size, 2, 2, bias), list(product(SCALES, POOLINGS)))


def test_equals_literal_at_any_width():
    for channels, classes in product([1, 3, 5], [2, 3, 10]):
        assert_equals_literal(
            make((3, 5), classes, channels, bias=True),
            [((1, 2, 4), pooling) for pooling in POOLINGS])


def test_direct_scale_1_is_global_average_pooling():
    for size in SIZES:
        feature, weight, bias = make(size, 3, 4, bias=True)
        logits = local_logits(feature, weight, bias, (1, ), 'direct')
        head = torch.nn.functional.linear(feature.mean((2, 3)), weight, bias)
        with case(size=size):
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


def test_poolings_agree_unless_bins_overlap():
    for size in [(1, 1), (2, 2), (4, 4), (8, 8), (4, 8)]:
        inputs = make(size, 3, 2, bias=True)
        direct, hierarchical = (
            local_logits(*inputs, pooling=pooling) for pooling in POOLINGS)
        with case(size=size):
            assert_near(hierarchical, direct, 1e-14)
    for size in [(5, 7), (7, 7), (3, 10)]:
        inputs = make(size, 3, 2, bias=True)
        direct, hierarchical = (
            local_logits(*inputs, pooling=pooling) for pooling in POOLINGS)
        with case(size=size):
            assert (hierarchical[0] - direct[0]).abs().max() > 1e-2
            assert_near(hierarchical[5:], direct[5:], 1e-14)


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


def test_refuses_scales():
    inputs = make((4, 4), 3, 2, bias=True)
    for scales in [(), [], (0, ), (1, -2), (True, ), (1., ), ('2', ), '124', 4,
                   None, {1, 2}]:
        for call in [
                lambda: local_logits(*inputs, scales=scales),
                lambda: pool_cells(inputs[0], scales)
        ]:
            with case(scales=scales), pytest.raises(
                    ValueError, match='scales must be a non-empty tuple'):
                call()


def test_refuses_pooling():
    inputs = make((4, 4), 3, 2, bias=True)
    with pytest.raises(ValueError, match="pooling must be one of .*'spp'"):
        local_logits(*inputs, pooling='spp')


@pytest.mark.parametrize(
    'argument, shapes, message',
    [('feature', [(2, 4), (2, 4, 4),
                  (1, 2, 4, 4, 4)], r'shape \(B, C, h, w\), got shape'),
     ('weight', [(3, ), (3, 5), (2, 3),
                 (3, 2, 1, 1)], r'weight must have shape \(K, C\)'),
     ('bias', [(), (2, ), (1, ),
               (3, 1)], r'bias must have shape \(3,\), got')])
def test_refuses_shapes(argument, shapes, message):
    fitting = dict(
        feature=torch.zeros(1, 2, 4, 4),
        weight=torch.zeros(3, 2),
        bias=torch.zeros(3))
    for shape in shapes:
        with case(shape=shape), pytest.raises(ValueError, match=message):
            local_logits(**{**fitting, argument: torch.zeros(shape)})
