# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a teacher cache can hold, and what its rows depend on."""
from typing import NamedTuple, Tuple

from mmpretrain.models import ClsDataPreprocessor

from ..datasets import InMemoryDataset
from ..errors import SDDError
from ..input_format import InputFormat
from ..models.algorithms import FrozenTeacherDistill
from ..models.data_preprocessor import AsyncClsDataPreprocessor
from ..models.distillers.sdd_distiller import HEAD
from ..models.losses.base import RecordLoss
from ..models.networks import members_of

PREPROCESSORS = (AsyncClsDataPreprocessor, ClsDataPreprocessor)
REMOVE = 'remove the TeacherCacheHook'


class TeacherCacheError(SDDError, RuntimeError):
    """A cache that could not be exact, or for which there is no room."""


class Request(NamedTuple):
    """What the losses of a distiller ask a teacher's record for.

    Args:
        scales (tuple[int]): The scale set of the local logits.
        pooling (str): Their pooling.
        with_global (bool): Whether the true global logits are needed, too.
    """
    scales: Tuple[int, ...]
    pooling: str
    with_global: bool


def check_cacheable(model: FrozenTeacherDistill,
                    dataset: InMemoryDataset) -> None:
    """Refuse a teacher that would see anything but numbered views.

    Args:
        model (FrozenTeacherDistill): The model, with its teacher loaded.
        dataset (InMemoryDataset): The training data.

    Raises:
        TeacherCacheError: If the teacher's images are not a discrete set.
    """
    if not isinstance(model, FrozenTeacherDistill):
        raise TeacherCacheError(
            'a teacher cache needs a model of type FrozenTeacherDistill, got '
            f'{type(model).__name__}')
    if len(members_of(model.teacher)) > 1:
        raise TeacherCacheError('a teacher cache holds the logits of one '
                                f'teacher, not of a TeacherEnsemble: {REMOVE}')
    if model.teacher_hash is None:
        raise TeacherCacheError('the teacher has not been loaded: call '
                                'model.load_teacher() first')
    if not isinstance(dataset, InMemoryDataset):
        raise TeacherCacheError(
            'a teacher cache needs augmentations that are a discrete set of '
            'numbered views: set train_dataloader.dataset=dict('
            "type='InMemoryDataset', dataset=...), not "
            f'{type(dataset).__name__}')
    preprocessor = model.data_preprocessor
    if type(preprocessor) not in PREPROCESSORS:
        raise TeacherCacheError(
            f'model.data_preprocessor is a {type(preprocessor).__name__}, '
            'which may change an image differently every time: set its type '
            f'to one of {[kind.__name__ for kind in PREPROCESSORS]}, or '
            f'{REMOVE}')
    if getattr(preprocessor, 'batch_augments', None) is not None:
        raise TeacherCacheError(
            'batch augmentations (Mixup, CutMix) mix images differently in '
            'every step, so that the views are not a discrete set: set '
            'model.architecture.train_cfg=None and remove batch_augments from '
            f'data_preprocessor, or {REMOVE}')


def request_of(distiller) -> Request:
    """What the losses need of the teacher.

    Args:
        distiller (SDDDistiller): The distiller.

    Returns:
        Request: A single grid of cells.

    Raises:
        TeacherCacheError: If they need more than logits, or several grids.
    """
    if len(distiller.deliveries.deliveries):
        raise TeacherCacheError(
            'a teacher cache does not hold what deliveries carry from the '
            'teacher to the student: remove '
            f'model.distiller.distill_deliveries, or {REMOVE}')
    grids, with_global = [], False
    for name, mapping in distiller.loss_forward_mappings.items():
        loss = distiller.distill_losses[name]
        if isinstance(loss, RecordLoss):
            with_global |= loss.asks_logits
            if loss.grid is not None and loss.grid not in grids:
                grids.append(loss.grid)
        for record in mapping.values():
            if not record.get('from_student') and not (
                    isinstance(loss, RecordLoss) and record['recorder'] == HEAD
                    and 'connector' not in record):
                raise TeacherCacheError(
                    f'distill loss {name!r} ({type(loss).__name__}) needs '
                    'more of the teacher than the logits that a teacher cache '
                    f'holds: {REMOVE}')
    if len(grids) > 1:
        raise TeacherCacheError(
            'a teacher cache holds the cells of a single grid, but the '
            'distill losses have several (scales, pooling): '
            f'{", ".join(map(str, grids))}')
    scales, pooling = grids[0] if grids else ((1, ), 'direct')
    if pooling == 'direct' and 1 in scales:
        with_global = False  # the cell of scale 1 is the global one
    return Request(scales, pooling, with_global)


def normalization_key(model: FrozenTeacherDistill) -> list:
    """How images are changed on their way to the teacher, as text."""
    own = model.data_preprocessor
    steps = [
        InputFormat.of_model(model)[:3],
        getattr(own, 'pad_size_divisor', 1),
        getattr(own, 'pad_value', 0)
    ]
    if model.convert is not None:
        steps.append(InputFormat.of_model(model.teacher)[:3])
    if model.teacher_input is not None:
        steps.append(model.teacher_input)
    return [str(step) for step in steps]
