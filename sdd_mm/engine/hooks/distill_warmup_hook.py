# Copyright (c) sdd_mm contributors. All rights reserved.
from math import ceil

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...runtime.utils import bare_model
from ..errors import PreflightError


@HOOKS.register_module()
class DistillWarmupHook(Hook):
    """Warms up the weight of one distillation loss.

    The factor depends on the runner's iteration alone, so the hook keeps no
    state in checkpoints.

    Args:
        loss (str): Name of the loss in ``model.distiller.distill_losses``.
        epochs (int): Length of the warm-up.
        by_epoch (bool): True: ``min((epoch + 1) / epochs, 1)``, constant
            within an epoch, as in the authors' released code. False: linear
            per iteration, reaching 1 in the last iteration of the warm-up.
            Defaults to True.

    Raises:
        ValueError: If ``epochs`` is not positive.
        PreflightError: If the model has no such loss.

    Examples:
        >>> # in a config
        >>> custom_hooks = [
        ...     dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20)
        ... ]
    """

    def __init__(self, loss: str, epochs: int, by_epoch: bool = True) -> None:
        if not epochs > 0:
            raise ValueError(f'epochs must be positive, got {epochs!r}')
        self.loss = loss
        self.epochs = epochs
        self.by_epoch = by_epoch

    def factor(self, iteration: int, iters_per_epoch: int) -> float:
        """The factor in an iteration, counted from 0."""
        if self.by_epoch:
            done = iteration // iters_per_epoch + 1
        else:
            done = (iteration + 1) / iters_per_epoch
        return min(done / self.epochs, 1.0)

    def before_train(self, runner) -> None:
        """Find the loss."""
        distiller = getattr(bare_model(runner), 'distiller', None)
        losses = getattr(distiller, 'distill_losses', {})
        if self.loss not in losses or not hasattr(losses[self.loss], 'warmup'):
            raise PreflightError(
                f'DistillWarmupHook.loss is {self.loss!r}, but the model has '
                f'the losses {sorted(losses)}: set it to the name of one of '
                'them in model.distiller.distill_losses that sdd_mm has, '
                'since losses of MMRazor have no warm-up')
        self._warmup = losses[self.loss].warmup
        self._current = None
        loader = runner.train_dataloader
        self._iters_per_epoch = len(loader)
        if isinstance(loader.sampler, InfiniteSampler):
            # the length counts the images of all processes
            self._iters_per_epoch = ceil(len(loader) / get_world_size())
        end = self.factor(runner.max_iters - 1, self._iters_per_epoch)
        if end < 1:
            runner.logger.warning(
                f'The warm-up of {self.loss} over {self.epochs} epochs of '
                f'{self._iters_per_epoch} iterations does not end within the '
                f'{runner.max_iters} iterations of this run: its weight only '
                f'reaches {end:.3g} of its value in the config.')

    def before_train_iter(self, runner, batch_idx: int, data_batch=None):
        """Set the factor when it changes."""
        factor = self.factor(runner.iter, self._iters_per_epoch)
        if factor != self._current:
            self._warmup.fill_(factor)
            self._current = factor
