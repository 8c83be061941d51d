# Copyright (c) sdd_mm contributors. All rights reserved.
import copy

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import is_tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def wrapper(kind, seed=0, **kwargs):
    """A wrapper of MMEngine or of ours around a small layer's SGD."""
    torch.manual_seed(seed)
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    # clipping takes its own arguments out of the config
    return layer, OPTIM_WRAPPERS.build(
        dict(type=kind, optimizer=optimizer, **copy.deepcopy(kwargs)))


def steps(layer, wrapper, seeds=range(4)):
    for seed in seeds:
        torch.manual_seed(seed)
        with wrapper.optim_context(layer):
            loss = layer(torch.rand(4, 3)).float().square().sum()
        wrapper.update_params(loss)
    return [parameter.detach().clone() for parameter in layer.parameters()]


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(clip_grad=dict(max_norm=0.5)),
    dict(clip_grad=dict(max_norm=0.5, norm_type='inf')),
    dict(clip_grad=dict(type='value', clip_value=0.1)),
    dict(clip_grad=dict(max_norm=0.5), accumulative_counts=3),
])
def test_steps_are_mmengines(kwargs):
    ours, theirs = (
        steps(*wrapper(kind, **kwargs))
        for kind in ('DeferredOptimWrapper', 'OptimWrapper'))
    assert all(map(torch.equal, ours, theirs))


class Written(TorchDispatchMode):
    """Counts the numbers that operators write to new memory."""
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {one.data_ptr() for one in tree_leaves(args) if is_tensor(one)}
        found = func(*args, **kwargs or {})
        self.count += sum(one.numel() for one in tree_leaves(found)
                          if is_tensor(one) and one.data_ptr() not in known)
        return found


@pytest.mark.parametrize(
    'kwargs', [dict(), dict(clip_grad=dict(max_norm=0.5))], ids=str)
def test_watching_copies_no_parameter(kwargs):
    """Or a default hook would double the update's time and memory."""
    counts = []
    for watches in (False, True):
        layer = nn.Linear(100, 100)
        ours = OPTIM_WRAPPERS.build(
            dict(
                type='DeferredOptimWrapper',
                optimizer=torch.optim.SGD(layer.parameters(), lr=0.1),
                **copy.deepcopy(kwargs)))
        if watches:
            ours.watch()
        layer(torch.rand(4, 100)).sum().backward()
        with Written() as written:
            ours.step()
        counts.append(written.count)
    assert counts[1] - counts[0] < 100


def test_nothing_to_clip():
    layer, ours = wrapper('DeferredOptimWrapper', clip_grad=dict(max_norm=1))
    ours.step()


@pytest.mark.parametrize('kinds', [('DeferredOptimWrapper', 'OptimWrapper'),
                                   ('OptimWrapper', 'DeferredOptimWrapper')])
def test_state_is_mmengines(kinds):
    first = wrapper(kinds[0])
    steps(*first)
    layer, second = wrapper(kinds[1], seed=1)
    layer.load_state_dict(first[0].state_dict())
    second.load_state_dict(copy.deepcopy(first[1].state_dict()))
    assert all(map(torch.equal, steps(*first), steps(layer, second)))


# --- mixed precision ---------------------------------------------------------

AMP = 'DeferredAmpOptimWrapper'


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_so():
    with pytest.raises(AssertionError, match='only available training on gpu'):
        wrapper(AMP, dtype='bfloat16')


@pytest.mark.parametrize('dtype, scaled', [
    (None, True),
    ('float16', True),
    (torch.float16, True),
    ('bfloat16', False),
    (torch.bfloat16, False),
    ('float32', False),
])
def test_only_float16_is_scaled(no_gpu_needed, dtype, scaled):
    _, ours = wrapper(AMP, dtype=dtype, loss_scale=8.)
    assert ours.loss_scaler.is_enabled() == scaled
    assert ('loss_scaler' in ours.state_dict()) == scaled
    if scaled:
        assert ours.loss_scaler.get_scale() == 8


@pytest.mark.parametrize('accumulate', [1, 3])
def test_bfloat16_steps_are_mmengines(no_gpu_needed, accumulate):
    """A power of two scales bfloat16 and float32 without rounding."""
    ours, theirs = (
        steps(*wrapper(
            kind,
            dtype='bfloat16',
            accumulative_counts=accumulate,
            clip_grad=dict(max_norm=0.5)))
        for kind in (AMP, 'AmpOptimWrapper'))
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize('kinds', [(AMP, 'AmpOptimWrapper'),
                                   ('AmpOptimWrapper', AMP)])
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_amp_state_is_mmengines(no_gpu_needed, kinds, dtype):
    kwargs = dict(dtype=dtype, loss_scale=dict(init_scale=4.))
    first = wrapper(kinds[0], **kwargs)
    first[1].update_params(first[0](torch.rand(4, 3)).sum())
    layer, second = wrapper(kinds[1],
                            **dict(kwargs, loss_scale=dict(init_scale=2.)))
    layer.load_state_dict(first[0].state_dict())
    second.load_state_dict(copy.deepcopy(first[1].state_dict()))
    if dtype == 'float16':
        assert second.loss_scaler.get_scale() == 4
    for kept, loaded in zip(first[0].parameters(), layer.parameters()):
        for one, state in ((kept, first[1]), (loaded, second)):
            assert 'momentum_buffer' in state.optimizer.state[one]
        assert torch.equal(first[1].optimizer.state[kept]['momentum_buffer'],
                           second.optimizer.state[loaded]['momentum_buffer'])
