# Copyright (c) sdd_mm contributors. All rights reserved.
import re
from functools import partial
from typing import Dict, List, Optional, Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from ...models.losses import ScaleDecoupledLoss
from ...models.losses.scale_decoupled_loss import CellRows
from ...models.recorders import EnsembleRecorder, FeatureHeadRecorder
from ...models.records import MeanRecord
from ...runtime.utils import bare_model, log_interval

AVERAGED = re.compile('loss|time|grad_norm')
CASES = ('both_right', 'only_image_right', 'only_cell_right', 'both_wrong')
"""Where the teacher is right: on the image, on the cell."""


@HOOKS.register_module()
class SDDReportHook(Hook):
    """Reports what is distilled.

    Once, in the first iteration: the recorded modules, the sizes of both
    feature maps, the number of cells, and the scales that repeat cells because
    a map is smaller than their grid.

    With every log line, for that iteration:

    - ``sdd/complementary``: the share of complementary cells.
    - ``sdd/both_right``, ``sdd/only_image_right``, ``sdd/only_cell_right``,
      ``sdd/both_wrong``: the shares of cells where the teacher is right on
      the image and on the cell, on one of them, or on neither.
    - ``sdd/part_scale4`` and so on: the loss by scale.
    - ``sdd/part_consistent``, ``sdd/part_complementary``: the loss by kind of
      cell. Both splits add up to the loss of that iteration, while MMEngine
      logs the mean of ten iterations for the losses themselves.

    With several losses the names are ``sdd/NAME/...``, such as
    ``sdd/fine/part_scale4`` for ``loss_fine``. ``loss_`` is left out because
    MMEngine averages every scalar with ``loss`` in its name.

    Args:
        interval (int, optional): Iterations between two reports. Defaults to
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
        self._listening, self._found = False, {}
        self._reported = set()
        for (name, loss), prefix in zip(losses.items(), prefixes(losses)):
            self._handles.append(
                loss.register_forward_hook(
                    partial(self._listen, runner, distiller, name, prefix),
                    with_kwargs=True))

    def before_train_iter(self, runner, batch_idx: int, data_batch=None):
        """Listen if a log line follows this iteration."""
        self._listening = (
            self.every_n_inner_iters(batch_idx, self.interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or self.is_last_train_iter(runner))

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs=None) -> None:
        """Hand on what was found, as tensors on the device."""
        for name, value in self._found.items():
            runner.message_hub.update_scalar(name, value)
        self._found = {}

    def after_train(self, runner) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _listen(self, runner, distiller, name, prefix, loss, args, kwargs,
                output) -> None:
        """Report the first call of a loss, and split those that are logged."""
        records = dict(zip(('student', 'teacher', 'target'), args), **kwargs)
        if name not in self._reported:
            self._reported.add(name)
            runner.logger.info(
                report(distiller, name, loss, records['student'],
                       records['teacher']))
        if self._listening:
            parts = split(loss, loss.rows(**records))
            self._found.update((f'train/{prefix}/{part}', value)
                               for part, value in parts.items())


def split(loss: ScaleDecoupledLoss, rows: CellRows) -> Dict[str, Tensor]:
    """Split a loss by scale and by kind of cell, and count the cells.

    Args:
        loss (ScaleDecoupledLoss): The loss.
        rows (CellRows): Its rows, see ``ScaleDecoupledLoss.rows``.

    Returns:
        dict[str, Tensor]: Scalars. ``part_scale...`` add up to the weighted
        loss, and so do ``part_consistent`` and ``part_complementary``. The
        others are shares of the cells: ``complementary``, and, of images with
        a label, one for each of :data:`CASES`.
    """
    cells, batch = rows.loss.shape
    factor = loss.loss_weight * loss.warmup / (
        batch * cells if loss.reduction == 'mean' else batch)
    scales = rows.loss.sum(1).split([m * m for m in loss.scales])
    parts = {
        f'part_scale{m}': factor * part.sum()
        for m, part in zip(loss.scales, scales)
    }
    mask, cell, image = rows.complementary, rows.cell_right, rows.image_right
    complementary = (rows.loss * mask).sum()
    parts.update(
        part_consistent=factor * (rows.loss.sum() - complementary),
        part_complementary=factor * complementary)
    cases = image & cell, image & ~cell, ~image & cell, ~(image | cell)
    parts['complementary'] = mask.float().mean()
    count = (cells * rows.labeled.sum()).clamp(min=1)
    parts.update((name, (share & rows.labeled).sum() / count)
                 for name, share in zip(CASES, cases))
    return parts


def prefixes(names: Sequence[str]) -> List[str]:
    """Prefixes of the scalars of losses.

    MMEngine averages scalars over ten iterations if their names contain one
    of a few words, which these prefixes avoid.

    Args:
        names (Sequence[str]): The names of the losses.

    Returns:
        list[str]: One prefix per loss, ``['sdd']`` for a single one.
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
    """What a loss distills, in a few lines for the log."""
    cells = sum(m * m for m in loss.scales)
    lines = [
        f'SDD {name}: {type(loss.criterion).__name__}'
        f'({loss.criterion.extra_repr()}), {loss.extra_repr()}',
        f'  {cells} cells per image, scales {loss.scales}'
    ]
    for role, record in (('student', student), ('teacher', teacher)):
        where = _where(distiller, role)
        if isinstance(record, MeanRecord):
            maps = ' and '.join(f'{one.map_size[0]} x {one.map_size[1]} of '
                                f'{one.feature.shape[1]} channels'
                                for one in record.records)
            lines.append(f'  {role}: maps {maps}{where}')
            size = [min(one.map_size) for one in record.records]
            lines += _repeated(role, loss.scales, min(size))
            continue
        size = getattr(record, 'map_size', None)
        if size is None:
            lines.append(f'  {role}: {type(record).__name__}{where}')
            continue
        lines.append(f'  {role}: map {size[0]} x {size[1]} of '
                     f'{record.feature.shape[1]} channels{where}')
        lines += _repeated(role, loss.scales, min(size))
    return '\n'.join(lines)


def _repeated(role: str, scales: Sequence[int], side: int) -> List[str]:
    repeated = [m for m in scales if m > side]
    return [
        f'  {role}: scales {repeated} repeat cells because the map is '
        'smaller than their grid: remove them from `scales`'
    ] * bool(repeated)


def _where(distiller, role: str) -> str:
    """The modules from which the role's feature head is recorded."""
    recorders = getattr(distiller, f'{role}_recorders').recorders.values()
    return ''.join(
        f', {recorder.where}' for recorder in recorders
        if isinstance(recorder, (FeatureHeadRecorder, EnsembleRecorder)))
