# Copyright (c) sdd_mm contributors. All rights reserved.
from functools import partial
from typing import Dict, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, LogProcessor

from ..message_hub import DeferredMessageHub
from ..private_names import check_mmengine
from ..utils import log_interval


@HOOKS.register_module()
class DeferredScalarsHook(Hook):
    """Takes the reading of scalars out of the training step.

    MMEngine reads every loss at every step, and so makes the host wait for
    the device. With this hook the runner's message hub leaves scalars on the
    device until a log line, the end of an epoch or anybody else who asks for
    them, and moves all of them to the host at once. The numbers are the same.

    The hub keeps as many values as the ``LogProcessor`` can ask for, where
    MMEngine keeps, copies and saves a million. A ``custom_cfg`` of the log
    processor whose window is 'global', or which names no window, needs them
    all, and so does a log processor of another class.

    Use ``DeferredOptimWrapper`` with it if gradients are clipped.

    Examples:
        >>> # in a config
        >>> default_hooks = dict(scalars=dict(type='DeferredScalarsHook'))
    """

    # after RuntimeInfoHook has given the losses, before LoggerHook asks
    priority = 'HIGH'

    def before_run(self, runner) -> None:
        """Look for what the message hub reaches into."""
        check_mmengine(runner)

    def before_train(self, runner) -> None:
        """Change the message hub."""
        self._interval = log_interval(runner)
        # not of the runner: message hubs live as long as the process
        DeferredMessageHub.take_over(
            runner.message_hub,
            partial(history_length, runner.log_processor,
                    epoch_windows(runner)))

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs: Optional[dict] = None) -> None:
        """Read the scalars for a log line."""
        if self.every_n_inner_iters(batch_idx, self._interval):
            runner.message_hub.flush()

    def after_train_epoch(self, runner) -> None:
        """Read the scalars that are left."""
        runner.message_hub.flush()


def epoch_windows(runner) -> Dict[str, int]:
    """The windows that the log processor takes for an epoch, by mode."""
    windows = {}
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        windows['train'] = len(runner.train_dataloader)
    if runner.val_loop is not None:
        # at the end of a validation it takes one value more
        windows['val'] = len(runner.val_dataloader) + 1
    return windows


def history_length(processor: LogProcessor, epochs: Dict[str, int],
                   key: str) -> Optional[int]:
    """How many values of a scalar the log can ask for; None: all.

    Args:
        processor (LogProcessor): The runner's.
        epochs (dict[str, int]): The window of an epoch, by mode.
        key (str): Name of the scalar, such as 'train/loss'.
    """
    if type(processor) is not LogProcessor:
        return None
    mode, _, name = key.partition('/')
    pattern = processor.mean_pattern
    smoothed = pattern.search(name) or pattern.search(key)
    windows = [processor.window_size if smoothed else 1]
    if name in ('time', 'data_time') and mode != 'train':
        windows.append(epochs.get(mode))
    for custom in processor.custom_cfg:
        if custom['data_src'] in (name, key):
            window = custom.get('window_size')
            if custom['method_name'] == 'current':
                window = 1
            windows.append(epochs.get(mode) if window == 'epoch' else window)
    if all(isinstance(window, int) and window > 0 for window in windows):
        return max(windows)
    return None
