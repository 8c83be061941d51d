# Copyright (c) sdd_mm contributors. All rights reserved.
"""What is pooled and classified, and what follows from it."""
import pytest
import torch
import torch.nn.functional as F
from literal.tensors import assert_near
from test_functional.test_host_sync import Recorder
from torch._subclasses.fake_tensor import FakeTensorMode

from sdd_mm.functional import local_logits, pooling_plan
from sdd_mm.functional.local_logits import pool_cells

SIDES = [1, 2, 3, 4, 5, 7, 8, 14, 28]
SIZES = [(side, side) for side in SIDES] + [(5, 7), (4, 8)]
SCALES = [(1, 2, 4), (1, 2), (1, 4), (4, ), (2, 4), (1, ), (1, 2, 3, 4), (3, ),
          (4, 1), (2, 2)]
POOLINGS = ['hierarchical', 'direct']


def pooled(feature, scales, pooling):
    """All cells by adaptive pooling of every scale, (N, B, C)."""
    grids = []
    for m in scales:
        through = pooling == 'hierarchical' and 4 % m == 0
        finest = F.adaptive_avg_pool2d(feature, 4) if through else feature
        grids.append(F.adaptive_avg_pool2d(finest, m).flatten(2))
    return torch.cat(grids, 2).permute(2, 0, 1)


@pytest.mark.parametrize('pooling', POOLINGS)
@pytest.mark.parametrize('scales', SCALES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_equals_adaptive_pooling(size, scales, pooling):
    generator = torch.Generator().manual_seed(0)
    feature, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in [(2, 3, *size), (4, 3), (4, )])
    cells = pooled(feature, scales, pooling)
    plan = pooling_plan(scales, pooling, size)
    assert len(cells) == plan.num_cells
    assert_near(pool_cells(feature, scales, pooling), cells, 1e-14)
    base = plan.base_logits(feature, weight, bias)
    assert base.shape == (plan.num_base, 2, 4)
    assert plan.num_base <= min(plan.num_cells, size[0] * size[1])
    logits = plan.expand(base)
    assert_near(logits, F.linear(cells, weight, bias), 1e-13)
    assert torch.equal(logits,
                       local_logits(feature, weight, bias, scales, pooling))


@pytest.mark.parametrize('scales, pooling, size, rows', [
    ((1, 2, 4), 'hierarchical', (8, 8), 16),
    ((1, 2, 4), 'hierarchical', (7, 7), 16),
    ((1, 2), 'hierarchical', (7, 7), 4),
    ((1, 2, 4), 'direct', (8, 8), 16),
    ((1, 2, 4), 'direct', (4, 8), 16),
    ((1, 2, 4), 'direct', (7, 7), 21),
    ((1, 2, 4), 'direct', (14, 14), 20),
    ((1, 2, 4), 'direct', (5, 8), 21),
    ((1, 2, 4), 'direct', (2, 2), 4),
    ((1, 2, 4), 'hierarchical', (3, 3), 9),
    ((1, 2, 4), 'direct', (1, 1), 1),
    ((1, 2, 4), 'hierarchical', (4, 4), 16),
    ((1, 2, 3, 4), 'hierarchical', (14, 14), 25),
    ((1, 2, 3, 4), 'direct', (12, 12), 25),
    ((1, 3), 'direct', (6, 6), 9),
    ((1, 3), 'hierarchical', (6, 6), 10),
    ((1, 8), 'hierarchical', (28, 28), 65),
    ((2, 2), 'direct', (7, 7), 4),
])
def test_classifies_only_what_does_not_follow(scales, pooling, size, rows):
    assert pooling_plan(scales, pooling, size).num_base == rows


def test_a_map_as_small_as_the_grid_is_not_pooled():
    feature = torch.randn(2, 3, 4, 4)
    base = pooling_plan((1, 4), 'direct', (4, 4)).pool_base(feature)
    assert torch.equal(base, feature.flatten(2).permute(2, 0, 1))


@pytest.mark.parametrize('size', [(8, 8), (7, 7)], ids=str)
def test_pooling_is_differentiated_twice_and_vectorised(size):
    feature = torch.randn(2, 2, *size, dtype=torch.float64)
    cells = torch.vmap(lambda maps: pool_cells(maps, (1, 4)))(feature[None])[0]
    assert_near(cells, pooled(feature, (1, 4), 'hierarchical'), 1e-14)
    feature.requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda maps: pool_cells(maps, (1, 4))**2, feature)


def test_a_base_in_half_precision_expands_to_float32():
    plan = pooling_plan((1, 2), 'direct', (8, 8))
    base = torch.randn(4, 2, 3).half()
    assert torch.equal(plan.expand(base), plan.expand(base.float()))


def test_refuses_a_base_of_another_grid():
    plan = pooling_plan((1, 2, 4), 'direct', (8, 8))
    with pytest.raises(ValueError, match=r'8 x 8 map has 16 rows, got shape'):
        plan.expand(torch.zeros(21, 2, 3))


def test_matrices_are_copied_to_a_device_once():
    pooling_plan.cache_clear()
    feature, weight = torch.randn(2, 3, 9, 9), torch.randn(4, 3)
    for copies in (2, 0):
        with Recorder() as recorder:
            local_logits(feature, weight)
        made = [name for name in recorder.names if name.startswith('lift')]
        assert len(made) == copies
    matrices = pooling_plan((1, 2, 4), 'hierarchical', (9, 9))._tensors
    assert not any(matrix.requires_grad for matrix in matrices.values())


def backward(feature, weight):
    """A step through the matrices that are kept."""
    feature.requires_grad_()
    logits = local_logits(feature, weight)
    logits.sum().backward()
    return feature.grad


@pytest.mark.parametrize('before', ['inference', 'fake', 'meta'])
def test_matrices_made_elsewhere_are_not_kept(before):
    pooling_plan.cache_clear()
    if before == 'inference':
        with torch.inference_mode():
            local_logits(torch.randn(2, 3, 7, 7), torch.randn(4, 3))
    elif before == 'fake':
        with FakeTensorMode():
            backward(torch.randn(2, 3, 7, 7), torch.randn(4, 3))
    else:
        backward(
            torch.randn(2, 3, 7, 7, device='meta'),
            torch.randn(4, 3, device='meta'))
    inputs = torch.randn(2, 3, 7, 7), torch.randn(4, 3)
    actual = backward(*inputs)
    pooling_plan.cache_clear()
    again = inputs[0].detach().clone(), inputs[1]
    assert torch.equal(actual, backward(*again))
    # and the other way round, with the real ones kept
    with FakeTensorMode():
        assert backward(torch.randn(2, 3, 7, 7), torch.randn(4, 3)) is not None


def test_maps_in_any_memory_layout():
    feature, weight = torch.randn(2, 3, 8, 6), torch.randn(4, 3)
    expected = local_logits(feature, weight)
    for other in [
            feature.contiguous(memory_format=torch.channels_last),
            feature.transpose(2, 3).contiguous().transpose(2, 3),
            feature.flip(0).flip(0)
    ]:
        assert_near(local_logits(other, weight), expected, 1e-6)


@pytest.mark.long
@pytest.mark.parametrize('kept', [True, False])
def test_compiles_in_one_graph(kept):
    pooling_plan.cache_clear()
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
