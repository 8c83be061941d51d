# Copyright (c) sdd_mm contributors. All rights reserved.
"""The cells that are pooled and classified, and those that follow."""
import sys
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from literal.tensors import assert_near
from reads import Recorder
from test_functional.cases import POOLINGS, case
from torch._subclasses.fake_tensor import FakeTensorMode

from sdd_mm.functional import local_logits
from sdd_mm.functional.local_logits import (base_logits, expand_base,
                                            pool_base, pool_cells)

MODULE = sys.modules[local_logits.__module__]
SIDES = [1, 2, 3, 4, 5, 7, 8, 14, 28]
SIZES = [(side, side) for side in SIDES] + [(5, 7), (4, 8)]
SCALES = [(1, 2, 4), (1, 2), (1, 4), (4, ), (2, 4), (1, ), (1, 2, 3, 4), (3, ),
          (4, 1), (2, 2)]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(MODULE, '_TENSORS', {})


def pooled(feature, scales, pooling):
    """All cells by adaptive pooling of every scale, (N, B, C)."""
    grids = []
    for m in scales:
        through = pooling == 'hierarchical' and 4 % m == 0
        finest = F.adaptive_avg_pool2d(feature, 4) if through else feature
        grids.append(F.adaptive_avg_pool2d(finest, m).flatten(2))
    return torch.cat(grids, 2).permute(2, 0, 1)


def test_equals_adaptive_pooling():
    generator = torch.Generator().manual_seed(0)
    for size, scales, pooling in product(SIZES, SCALES, POOLINGS):
        feature, weight, bias = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in [(2, 3, *size), (4, 3), (4, )])
        grid = scales, pooling
        with case(size=size, scales=scales, pooling=pooling):
            cells = pooled(feature, *grid)
            assert_near(pool_cells(feature, *grid), cells, 1e-14)
            base = base_logits(feature, weight, bias, *grid)
            assert base.shape == (len(pool_base(feature, *grid)), 2, 4)
            logits = expand_base(base, *grid, size)
            assert_near(logits, F.linear(cells, weight, bias), 1e-13)
            assert torch.equal(logits,
                               local_logits(feature, weight, bias, *grid))


@pytest.mark.parametrize(
    'scales, pooling, size, rows',
    [
        # the finest scale's cells, of which all others are averages
        ((1, 2, 4), 'hierarchical', (8, 8), 16),
        ((1, 2, 4), 'hierarchical', (7, 7), 16),
        ((1, 2), 'hierarchical', (7, 7), 4),
        ((1, 2, 4), 'direct', (8, 8), 16),
        ((1, 2, 4), 'direct', (8, 12), 16),
        ((1, 3), 'direct', (6, 6), 9),
        ((2, 2), 'direct', (7, 7), 4),
        # the positions of the map, which are no more than these
        ((1, 2, 4), 'hierarchical', (4, 4), 16),
        ((1, 2, 4), 'hierarchical', (3, 3), 9),
        ((1, 2, 4), 'direct', (2, 8), 16),
        ((1, 2, 4), 'direct', (2, 2), 4),
        ((1, 2, 4), 'direct', (1, 1), 1),
        # all cells
        ((1, 2, 4), 'direct', (7, 7), 21),
        ((1, 2, 4), 'direct', (14, 14), 21),
        ((1, 2, 4), 'direct', (5, 8), 21),
        ((1, 2, 3, 4), 'hierarchical', (14, 14), 30),
        ((1, 2, 3, 4), 'direct', (12, 12), 30),
        ((1, 3), 'hierarchical', (6, 6), 10),
        ((1, 8), 'hierarchical', (28, 28), 65),
        ((1, ), 'direct', (7, 7), 1),
    ])
def test_classifies_no_cell_that_follows(scales, pooling, size, rows):
    feature = torch.zeros(1, 1, *size)
    assert len(pool_base(feature, scales, pooling)) == rows


def test_a_map_as_small_as_the_grid_is_not_pooled():
    feature = torch.randn(2, 3, 4, 4)
    base = pool_base(feature, (1, 4), 'direct')
    assert torch.equal(base, feature.flatten(2).permute(2, 0, 1))
    assert base.data_ptr() == feature.data_ptr()


def test_pooling_is_differentiated_twice_and_vectorized():
    for size in [(8, 8), (7, 7)]:
        feature = torch.randn(2, 2, *size, dtype=torch.float64)
        with case(size=size):
            cells = torch.vmap(lambda maps: pool_cells(maps, (1, 4)))(
                feature[None])[0]
            assert_near(cells, pooled(feature, (1, 4), 'hierarchical'), 1e-14)
            feature = feature[:1, :1].requires_grad_()
            assert torch.autograd.gradgradcheck(
                lambda maps: pool_cells(maps, (1, 4))**2, feature)


def test_a_base_expands_in_float32_under_autocast_and_from_half_precision():
    base = torch.randn(16, 2, 3)
    grid = (1, 2, 4), 'hierarchical', (8, 8)
    expected = expand_base(base, *grid)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(expand_base(base, *grid), expected)
    half = base.half()
    assert torch.equal(
        expand_base(half, *grid), expand_base(half.float(), *grid))


def test_matrices_are_copied_to_a_device_once():
    feature, weight = torch.randn(2, 3, 9, 9), torch.randn(4, 3)
    for copies in (2, 0):
        with Recorder() as recorder:
            local_logits(feature, weight)
        made = [name for name in recorder.names if name.startswith('lift')]
        assert len(made) == copies
    assert len(MODULE._TENSORS) == 2
    assert not any(kept.requires_grad for kept in MODULE._TENSORS.values())


def backward(feature, weight):
    """A step through the matrices that are kept."""
    feature.requires_grad_()
    logits = local_logits(feature, weight)
    logits.sum().backward()
    return feature.grad


@pytest.mark.parametrize('before', ['inference', 'fake', 'meta', 'transform'])
def test_matrices_made_elsewhere_are_not_mixed_up(before):
    shapes = (2, 3, 7, 7), (4, 3)
    inputs = [torch.randn(shape) for shape in shapes]
    expected = backward(inputs[0].clone(), inputs[1])

    def elsewhere():
        if before == 'inference':
            with torch.inference_mode():
                local_logits(*inputs)
        elif before == 'fake':
            with FakeTensorMode():
                backward(*map(torch.randn, shapes))
        elif before == 'meta':
            backward(*(torch.randn(shape, device='meta') for shape in shapes))
        else:
            torch.func.grad(lambda maps: local_logits(maps, inputs[1]).sum())(
                inputs[0])

    # with the real ones kept, and with none
    elsewhere()
    MODULE._TENSORS.clear()
    elsewhere()
    assert torch.equal(backward(inputs[0].clone(), inputs[1]), expected)


def test_maps_in_any_memory_layout():
    feature, weight = torch.randn(2, 3, 8, 6), torch.randn(4, 3)
    expected = local_logits(feature, weight)
    for other in [
            feature.contiguous(memory_format=torch.channels_last),
            feature.transpose(2, 3).contiguous().transpose(2, 3),
            feature.flip(0).flip(0)
    ]:
        with case(stride=other.stride()):
            assert_near(local_logits(other, weight), expected, 1e-6)


@pytest.mark.long
@pytest.mark.parametrize('kept', [True, False])
def test_compiles_in_one_graph(kept):
    feature, weight = torch.randn(2, 3, 7, 7), torch.randn(4, 3)
    if kept:
        backward(feature.clone(), weight)
    compiled = torch.compile(local_logits, backend='aot_eager', fullgraph=True)
    feature.requires_grad_()
    logits = compiled(feature, weight)
    assert torch.equal(logits, local_logits(feature, weight))
    logits.sum().backward()
    assert torch.equal(feature.grad, backward(feature.detach().clone(),
                                              weight))
