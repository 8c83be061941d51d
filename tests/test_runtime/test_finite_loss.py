# Copyright (c) sdd_mm contributors. All rights reserved.
"""A run ends at the first number that is not finite."""
import math

import pytest
import torch
from mmengine.hooks import Hook
from short_run import SGD, runner
from torch import nn

from sdd_mm.runtime.errors import NonFiniteError

HOOKS = [dict(type='FiniteLossHook')]


class Broken(nn.Module):
    """The head's linear layer, which says something wrong in an iteration."""

    always = False

    def __init__(self, layer, iteration, value, where):
        super().__init__()
        self.layer, self.where = layer, where
        self.left, self.value = iteration, value

    def forward(self, inputs):
        logits = self.layer(inputs)
        self.left -= 1
        if self.left == -1 or self.always:
            if self.where == 'loss':
                return logits * self.value
            logits.register_hook(lambda grad: grad * self.value)
        return logits


def broken(work_dir, iteration, value=math.nan, where='loss', **kwargs):
    run = runner(work_dir, hooks=HOOKS, param_scheduler=None, **kwargs)
    head = run.model.head
    head.fc = Broken(head.fc, iteration, value, where)
    return run


@pytest.mark.parametrize('where, value', [
    ('loss', math.nan),
    ('gradient', math.inf),
    pytest.param('loss', math.inf, marks=pytest.mark.long),
    pytest.param('gradient', math.nan, marks=pytest.mark.long),
])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.)])
@pytest.mark.parametrize('iteration', [0, 1, 4, 5, 7, 11])
def test_the_first_iteration_is_named_and_nothing_is_saved_after_it(
        tmp_path, iteration, value, where, clip):
    run = broken(
        tmp_path, iteration, value, where, wrapper=dict(clip_grad=clip))
    with pytest.raises(NonFiniteError) as info:
        run.train()
    text = str(info.value)
    assert f'iteration {iteration + 1} (epoch {iteration // 6 + 1}' in text
    assert ('loss not finite' if where == 'loss' else
            'a gradient, a weight or another rank is not finite') in text
    assert 'sample_idx' in text and "'lr': 0.05" in text
    bundle = torch.load(
        tmp_path / f'non_finite_iter_{iteration + 1}.pth', weights_only=True)
    assert len(bundle['samples']) == 4 and bundle['iteration'] == iteration
    assert not list(tmp_path.glob(f'epoch_{iteration // 6 + 1}.pth'))


def test_nothing_changes_where_all_is_finite(tmp_path):
    states = []
    for name, hooks in (('with', HOOKS), ('without', [])):
        run = runner(tmp_path / name, hooks=hooks)
        run.train()
        states.append(run.model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert not list(tmp_path.rglob('non_finite*'))


def test_another_wrapper_is_told(tmp_path):
    run = runner(tmp_path, ours=False, hooks=HOOKS)
    run.train()
    logs = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'cannot watch OptimWrapper' in logs


def test_a_failing_disk_does_not_hide_the_number(tmp_path):
    run = broken(tmp_path, 4)
    (tmp_path / 'non_finite_iter_5.pth').mkdir()  # no file can take its place
    with pytest.raises(
            NonFiniteError,
            match='(?s)iteration 5 .*iter_5.pth could not be written: '):
        run.train()


AMP = dict(type='DeferredAmpOptimWrapper', loss_scale='dynamic')


def test_an_infinite_gradient_in_float16_makes_the_scale_smaller(
        no_gpu_needed, tmp_path):
    run = broken(tmp_path, 4, math.inf, 'gradient', wrapper=AMP)
    run.train()
    assert run.iter == 12
    assert run.optim_wrapper.loss_scaler.get_scale() == 2**15
    assert all(value.isfinite().all()
               for value in run.model.state_dict().values())


def test_an_infinite_loss_in_float16_ends_the_run(no_gpu_needed, tmp_path):
    with pytest.raises(NonFiniteError, match='iteration 5 .*loss not finite'):
        broken(tmp_path, 4, wrapper=AMP).train()


def test_gradients_that_are_never_finite_end_the_run(no_gpu_needed, tmp_path):
    """Or every update would be left out, without a word."""
    run = broken(tmp_path, 0, wrapper=AMP, where='gradient', epochs=12)
    run.model.head.fc.always = True
    with pytest.raises(NonFiniteError, match='loss scale has fallen to'):
        run.train()
    assert run.iter < 40


def test_an_update_that_overflows_ends_the_run(tmp_path):
    run = broken(
        tmp_path,
        10**9,
        optim_wrapper=dict(
            type='DeferredOptimWrapper', optimizer=dict(SGD, lr=3e38)))
    with pytest.raises(NonFiniteError, match='iteration [12] '):
        run.train()
    assert not list(tmp_path.glob('epoch_*.pth'))


class LastUpdateOverflows(Hook):
    """The last update of an epoch, which no loss tells of any more."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 5:
            for group in runner.optim_wrapper.param_groups:
                group['lr'] = math.inf


def test_weights_are_looked_at_before_they_are_saved(tmp_path):
    run = runner(tmp_path, hooks=HOOKS, param_scheduler=None)
    run.register_hook(LastUpdateOverflows())
    with pytest.raises(NonFiniteError, match='iteration 6 .*a weight'):
        run.train()
    assert not list(tmp_path.glob('epoch_*.pth'))
