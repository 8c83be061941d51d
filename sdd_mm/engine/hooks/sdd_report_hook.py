# Copyright (c) sdd_mm contributors. All rights reserved.
import re
from functools import partial
from typing import List, Optional, Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...models.losses import ScaleDecoupledLoss
from ...models.recorders.map_recorder import MapRecorder
from ...runtime.utils import bare_model, log_interval

AVERAGED = re.compile('loss|time|grad_norm')


@HOOKS.register_module()
class SDDReportHook(Hook):
    """Reports what is distilled.

    Once, at the first iteration: the recorded modules, the sizes of both
    feature maps, the number of cells, and which scales repeat cells because a
    map is smaller than their grid.

    At every log line, of that iteration:

    - ``sdd/complementary``: the share of complementary cells.
    - ``sdd/both_right``, ``sdd/only_image_right``, ``sdd/only_cell_right``,
      ``sdd/both_wrong``: the shares of cells where the teacher is right on
      the image and on the cell, on one of them, or on neither.
    - ``sdd/part_scale4`` and so on: the loss by scale.
    - ``sdd/part_consistent``, ``sdd/part_complementary``: the loss by kind of
      cell. Either split adds up to the loss of that iteration, while MMEngine
      shows the mean of ten for losses themselves.

    Where there are several losses, ``sdd/NAME/...``: of a loss named
    ``loss_fine``, ``sdd/fine/part_scale4``. What has ``loss`` in its name
    MMEngine would average.

    Args:
        interval (int, optional): Iterations between two of them. Defaults to
            None, which takes the interval of the ``LoggerHook``.

    Examples:
        >>> # in a config
        >>> custom_hooks = [dict(type='SDDReportHook')]
    """

    def __init__(self, interval: Optional[int] = None) -> None:
        self.interval = interval
        self._handles = []

    def before_train(self, runner) -> None:
        """Listen to the losses."""
        distiller = getattr(bare_model(runner), 'distiller', None)
        losses = {
            name: loss
            for name, loss in getattr(distiller, 'distill_losses', {}).items()
            if isinstance(loss, ScaleDecoupledLoss)
        }
        if self.interval is None:
            self.interval = log_interval(runner)
        self._losses = losses
        self._prefixes = dict(zip(losses, prefixes(losses)))
        for name, loss in losses.items():
            self._handles.append(
                loss.register_forward_pre_hook(
                    partial(self._tell, runner, distiller, name),
                    with_kwargs=True))

    def before_train_iter(self, runner, batch_idx: int, data_batch=None):
        """Listen where a log line follows."""
        listening = (
            self.every_n_inner_iters(batch_idx, self.interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or self.is_last_train_iter(runner))
        for loss in self._losses.values():
            loss.keep_parts = listening

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs=None) -> None:
        """Pass on what was kept, as tensors that nobody reads yet."""
        for name, loss in self._losses.items():
            for part, value in loss.parts.items():
                runner.message_hub.update_scalar(
                    f'train/{self._prefixes[name]}/{part}', value)
            loss.parts = {}

    def after_train(self, runner) -> None:
        """Let the losses go."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for loss in self._losses.values():
            loss.keep_parts = False

    def _tell(self, runner, distiller, name, loss, args, kwargs) -> None:
        """Say what a loss is called with, the first time."""
        records = dict(zip(('student', 'teacher', 'target'), args), **kwargs)
        runner.logger.info(
            report(distiller, name, loss, records['student'],
                   records['teacher']))
        self._handles[list(self._losses).index(name)].remove()


def prefixes(names: Sequence[str]) -> List[str]:
    """What the scalars of losses begin with.

    MMEngine averages what has one of a few words in its name over ten
    iterations.
    """
    names = list(names)
    if len(names) == 1:
        return ['sdd']
    short = [re.sub('_?loss_?', '', name) for name in names]
    if len(set(short)) < len(short) or any(not name or AVERAGED.search(name)
                                           for name in short):
        short = list(map(str, range(1, len(names) + 1)))
    return [f'sdd/{name}' for name in short]


def report(distiller, name: str, loss: ScaleDecoupledLoss, student,
           teacher) -> str:
    """What a loss distills, in a few lines."""
    cells = sum(m * m for m in loss.scales)
    lines = [
        f'SDD {name}: {type(loss.criterion).__name__}'
        f'({loss.criterion.extra_repr()}), {loss.extra_repr()}',
        f'  {cells} cells an image, scales {loss.scales}'
    ]
    for role, record in (('student', student), ('teacher', teacher)):
        where = _where(distiller, role)
        size = getattr(record, 'map_size', None)
        if size is None:
            lines.append(f'  {role}: {type(record).__name__}{where}')
            continue
        lines.append(f'  {role}: map {size[0]} x {size[1]} of '
                     f'{record.feature.shape[1]} channels{where}')
        repeated = [m for m in loss.scales if m > min(size)]
        if repeated:
            lines.append(
                f'  {role}: scales {repeated} repeat cells, the map is '
                'smaller than their grid: leave them out of `scales`')
    return '\n'.join(lines)


def _where(distiller, role: str) -> str:
    """What the role's feature head is recorded from."""
    recorders = getattr(distiller, f'{role}_recorders').recorders.values()
    return ''.join(f', {recorder.where}' for recorder in recorders
                   if isinstance(recorder, MapRecorder))
