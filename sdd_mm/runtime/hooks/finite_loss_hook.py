# Copyright (c) sdd_mm contributors. All rights reserved.
from collections import deque
from pathlib import Path
from typing import Optional

import torch
from mmengine.dist import all_gather_object, get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner.checkpoint import save_checkpoint
from torch import Tensor

from ..errors import NonFiniteError
from ..utils import log_interval

SMALLEST_SCALE = 1e-3  # healthy ones are above 1


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends a run whose loss or gradient is NaN or infinite.

    The device itself counts the iterations before the first such number. The
    host asks for the count at log lines, before a checkpoint is saved and at
    the end of an epoch, and looks at the weights then. So no step waits, and
    no checkpoint has weights that such a number went into: resuming from the
    last one repeats the iteration.

    What made it is written to ``non_finite_iter_N.pth`` in the work dir:
    iteration, epoch, samples, losses and learning rates.

    Needs ``DeferredOptimWrapper`` or ``DeferredAmpOptimWrapper``. In float16
    a gradient that is not finite is no error: the scaler skips the update and
    lowers the loss scale. That the scale falls to next to nothing is one.

    Raises:
        NonFiniteError: With the iteration, its losses, samples and learning
            rates.

    Examples:
        >>> # in a config
        >>> default_hooks = dict(finite_loss=dict(type='FiniteLossHook'))
    """

    # before LoggerHook writes the numbers, and CheckpointHook the weights
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._watches = False

    def before_train(self, runner) -> None:
        """Begin to watch."""
        wrapper = runner.optim_wrapper
        self._watches = hasattr(wrapper, 'watch')
        if not self._watches:
            runner.logger.warning(
                f'FiniteLossHook cannot watch {type(wrapper).__name__}, only '
                'DeferredOptimWrapper and DeferredAmpOptimWrapper')
            return
        self._interval = log_interval(runner)
        self._first = runner.iter
        # of the iterations since the last time the host asked
        self._recent = deque(maxlen=self._interval + 1)
        wrapper.watch()

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        """Keep what an error would tell; ask for a log line."""
        if not self._watches:
            return
        runner.optim_wrapper.count_iter()
        batch = data_batch if isinstance(data_batch, dict) else {}
        self._recent.append(
            dict(
                iteration=runner.iter,
                epoch=runner.epoch,
                losses={
                    name:
                    value.detach() if isinstance(value, Tensor) else value
                    for name, value in (outputs or {}).items()
                },
                samples=batch.get('data_samples'),
                lr={
                    name: values[-1]
                    for name, values in runner.optim_wrapper.get_lr().items()
                }))
        if self.every_n_inner_iters(batch_idx, self._interval):
            self._ask(runner, runner.iter + 1, agree=True)

    def after_train_epoch(self, runner) -> None:
        """Ask before the epoch is validated and saved."""
        self._ask(runner, runner.iter, agree=True)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Never save what came after it."""
        if self._watches and self._recent:
            self._ask(runner, self._recent[-1]['iteration'] + 1)

    def _ask(self, runner, done: int, agree: bool = False) -> None:
        """Ask the device how many iterations were finite, of any process."""
        if not self._watches or not self._recent:
            return
        bad = self._first + int(runner.optim_wrapper.finite_iters)
        if bad >= done and not runner.optim_wrapper.weights_are_finite():
            bad = done - 1  # an earlier one would have spoiled a loss
        if agree:  # or those that are well would wait for those that are not
            bad = min(all_gather_object(bad))
        if bad >= done:
            self._recent.clear()
            _check_scale(runner)
            return
        facts = next((one for one in self._recent if one['iteration'] == bad),
                     self._recent[0])
        facts['losses'] = {
            name: float(value)
            for name, value in facts['losses'].items()
        }
        samples = facts['samples']
        facts['samples'] = [known(sample) for sample in samples] if isinstance(
            samples, (list, tuple)) else []
        rank, world_size = get_dist_info()
        which = f'_rank_{rank}' * (world_size > 1)
        path = Path(runner.work_dir, f'non_finite_iter_{bad + 1}{which}.pth')
        kept = f'all of this is in {path}'
        try:
            save_checkpoint(facts, str(path))
        except OSError as error:
            kept = f'{path} could not be written: {error}'
        wrong = [
            name for name, value in facts['losses'].items()
            if not torch.tensor(value).isfinite()
        ]
        what = (f'{", ".join(wrong)} not finite' if wrong else
                'a gradient, a weight or another rank is not finite')
        self._recent.clear()
        raise NonFiniteError(
            f'iteration {bad + 1} (epoch {facts["epoch"] + 1}, rank '
            f'{rank}): {what}. Losses: {facts["losses"]}. Learning '
            f'rate: {facts["lr"]}. Samples: {facts["samples"]}. No checkpoint '
            f'was saved since; {kept}. Try lowering '
            'optim_wrapper.optimizer.lr or tightening optim_wrapper.clip_grad')


def _check_scale(runner) -> None:
    """Where all gradients are not finite, all updates are left out."""
    scale = runner.optim_wrapper.loss_scale()
    if scale is not None and scale < SMALLEST_SCALE:
        raise NonFiniteError(
            f'iteration {runner.iter + 1}: the loss scale has fallen to '
            f'{scale:g}: gradients of the last iterations were not finite, '
            'and no update was made. Try lowering optim_wrapper.optimizer.lr, '
            "or optim_wrapper.dtype='bfloat16'")


def known(sample) -> dict:
    """Fields that identify a sample in error messages."""
    found = {
        name: sample.get(name)
        for name in ('sample_idx', 'img_path', 'image_ids', 'view_ids')
    }
    return {
        name: value.tolist() if hasattr(value, 'tolist') else value
        for name, value in found.items() if value is not None
    }
