# Copyright (c) sdd_mm contributors. All rights reserved.
"""The teacher source that asks a frozen teacher once per view."""
import logging
import time
from typing import Optional

import mmpretrain
import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor

from ..datasets import InMemoryDataset
from ..errors import SDDError
from ..functional.local_logits import base_logits, expand_base
from ..input_format import InputFormat
from ..memory import size_text
from ..models.algorithms import FrozenTeacherDistill
from ..models.algorithms.teacher_inference import DTYPES as TEACHER_DTYPES
from ..models.data_preprocessor import AsyncClsDataPreprocessor
from ..models.distillers.sdd_distiller import HEAD
from ..models.losses.base import RecordLoss
from ..models.recorders.feature_head_recorder import TOLERANCE
from ..models.records import FeatureHead, LocalLogits
from ..structures import DataSampleBatch
from .row_store import RowStore, RowStoreError

FORMAT = 1  # of what a row holds and how it is checked
DTYPES = ('float16', 'float32')
FEWEST = 16  # images that the teacher is asked for at once
PREPROCESSORS = (AsyncClsDataPreprocessor, ClsDataPreprocessor)


class TeacherCacheError(SDDError, RuntimeError):
    """A cache that could not be exact, or has no room."""


class TeacherCache:
    """The teacher's local logits of every view, computed once.

    Exact for a frozen teacher, whose logits depend on the view alone. A row
    per view holds the logits of the cells that all others are averages of and,
    if a loss needs them, the true global logits. A step that runs the teacher
    uses the rounded row that it stores, so a cold run and a warm one see the
    same numbers.

    Rows are bound to the teacher's weights and network, the images, their
    normalization and views, the grid of cells and the dtype. Later runs, other
    methods and other students with the same ones read them.

    Args:
        model (FrozenTeacherDistill): The model, with its teacher loaded.
        dataset (InMemoryDataset): The training data.
        cache_dir (str, optional): Folder of the rows. Defaults to None, which
            keeps them in memory for this run.
        dtype (str): 'float16' or 'float32', of the stored logits. Defaults to
            'float16'.

    Raises:
        TeacherCacheError: If the views are not a discrete set, a loss needs
            more of the teacher than logits, or there is no room.
    """

    def __init__(self,
                 model: FrozenTeacherDistill,
                 dataset: InMemoryDataset,
                 cache_dir: Optional[str] = None,
                 dtype: str = 'float16') -> None:
        if not isinstance(model, FrozenTeacherDistill):
            raise TeacherCacheError(
                'a teacher cache needs a model of type FrozenTeacherDistill, '
                f'got {type(model).__name__}')
        if dtype not in DTYPES:
            raise TeacherCacheError(
                f'dtype of the teacher cache must be one of {DTYPES}, got '
                f'{dtype!r}')
        if model.teacher_hash is None:
            raise TeacherCacheError('the teacher is not loaded yet')
        _check_views(model, dataset)
        self.live = model.teacher_source
        self.preprocess = model.data_preprocessor
        self.dataset = dataset
        self.scales, self.pooling, self._with_global = _asked(model.distiller)
        # enough images for the teacher's own checks to mean something
        some = np.arange(min(len(dataset), 32))
        first_view = np.zeros_like(some)
        record = self._ask(self._inputs(some, first_view)[0])
        # a tail that is not linear has no cells that follow from others
        self.base_only = isinstance(record, FeatureHead)
        self.map_size = record.map_size
        try:
            self.store = RowStore(
                key=dict(
                    format=FORMAT,
                    mmpretrain=mmpretrain.__version__,
                    teacher=model.teacher_hash,
                    network=model.teacher_network,
                    recorder=model.distiller.teacher_head.where,
                    teacher_inference=model.teacher_inference.options(),
                    normalization=_normalization(model),
                    images=dataset.fingerprint,
                    num_views=dataset.num_views,
                    scales=list(self.scales),
                    pooling=self.pooling,
                    map_size=list(record.map_size),
                    base_cells_only=self.base_only,
                    global_logits=self._with_global),
                num_rows=len(dataset) * dataset.num_views,
                row_shape=tuple(self._rows(record).shape[1:]),
                dtype=dtype,
                root=cache_dir)
        except RowStoreError as error:
            raise TeacherCacheError(
                f'teacher cache: {error} (TeacherCacheHook.cache_dir is '
                f'{cache_dir!r})') from error
        self._compare(self._index(some, first_view), self._rows(record))
        self.asked = self.forwards = 0
        self._logged = False
        print_log(f'Teacher cache: {self}', logger='current')

    def __str__(self) -> str:
        shape = ' x '.join(map(str, self.store.row_shape))
        return (f'{len(self.dataset):,} images of {self.dataset.num_views:,} '
                f'views, {shape} {self.store.dtype.name} logits each: '
                f'{size_text(self.store.num_bytes)} when full, in '
                f'{self.store.folder or "memory"}, '
                f'{self.store.count() / self.store.num_rows:.2%} of it filled')

    def record(self, inputs: Tensor, data_samples) -> LocalLogits:
        """The teacher's record of a batch.

        Args:
            inputs (Tensor): The student's images, (B, 3, H, W).
            data_samples (list[DataSampleBatch]): What the in-memory data set
                gave with them.

        Returns:
            LocalLogits: From the cache, and from the teacher where a view is
            seen for the first time.
        """
        batch = data_samples[0] if data_samples else None
        if not isinstance(batch, DataSampleBatch):
            raise TeacherCacheError(
                'the teacher cache needs the batches of an InMemoryDataset '
                'with their image and view ids, got data samples of type '
                f'{type(batch).__name__}')
        index = self._index(batch.image_ids, batch.view_ids)
        rows, found = self.store.read(index)
        missing = np.flatnonzero(~found)
        self.asked += len(index)
        if len(missing):
            chosen = inputs
            if len(missing) < len(inputs):
                chosen = inputs[torch.from_numpy(missing).to(inputs.device)]
            rows[missing] = self._answer(chosen, index[missing])
        return self._as_record(rows, inputs.device)

    def fill(self, batch_size: int = 256) -> None:
        """Ask the teacher for every view that is not there yet.

        Several processes share the work.

        Args:
            batch_size (int): Images of a forward. Defaults to 256.
        """
        num_views, told = self.dataset.num_views, time.monotonic()
        start, begun = self.forwards, told
        for first in range(get_rank() * batch_size, self.store.num_rows,
                           get_world_size() * batch_size):
            index = np.arange(first,
                              min(first + batch_size, self.store.num_rows))
            index = index[~self.store.read(index)[1]]
            if len(index):
                inputs, _ = self._inputs(index // num_views, index % num_views)
                self._answer(inputs, index)
                if self.store.failure is not None:
                    return
            if time.monotonic() - told > 10:
                told = time.monotonic()
                done = (first + batch_size) / self.store.num_rows
                asked = self.forwards - start
                eta = (told - begun) * (1 - done) / done
                print_log(
                    f'Teacher cache: {done:.1%} of the views, {asked:,} '
                    f'forwards, {asked / (told - begun):,.0f} images/s, '
                    f'eta {eta / 60:.0f} min',
                    logger='current')
        print_log(f'Teacher cache: {self}', logger='current')

    def _compare(self, index: np.ndarray, rows: Tensor) -> None:
        """What is stored must be what the teacher says today.

        The key cannot tell a network whose code was changed in place.
        """
        stored, found = self.store.read(index)
        if not found.any():
            return
        rows = rows.float().cpu().numpy()[found]
        largest = np.abs(rows).max()
        difference = np.abs(stored[found] - rows).max() / max(largest, 1e-6)
        dtype = TEACHER_DTYPES.get(self.live.inference.dtype)
        if not difference <= TOLERANCE[dtype or torch.float16]:
            raise TeacherCacheError(
                f'logits of the teacher {type(self.live.teacher).__name__} '
                f'differ from those in {self.store.folder} by '
                f'{difference:.2g} of the largest. If you changed the '
                'teacher\'s code, delete this folder')

    def _index(self, image_ids: np.ndarray,
               view_ids: np.ndarray) -> np.ndarray:
        return np.asarray(image_ids) * self.dataset.num_views + view_ids

    def _inputs(self, image_ids, view_ids):
        """Views as the student sees them, and their data samples."""
        data = self.dataset.batch(image_ids, view_ids)
        data = self.preprocess(data, training=True)
        return data['inputs'], data['data_samples']

    def _ask(self, inputs: Tensor):
        """The teacher's record of images."""
        # a run in mixed precision and one in float32 share these rows: only
        # teacher_inference, which is in the key, says how the teacher runs
        with torch.no_grad(), torch.autocast(
                inputs.device.type, enabled=False):
            record = self.live.record(inputs)
        self.live.distiller.reset_records()
        return record

    @torch.no_grad()
    def _rows(self, record) -> Tensor:
        """What a row holds of a record, (B, R, K)."""
        if self.base_only:
            rows = base_logits(record.feature, record.weight, record.bias,
                               self.scales, self.pooling)
        else:
            rows = record.local_logits(self.scales, self.pooling)
        if self._with_global:
            rows = torch.cat([rows, record.logits()[None]])
        return rows.transpose(0, 1)

    def _answer(self, inputs: Tensor, index: np.ndarray) -> np.ndarray:
        """Ask the teacher and keep what it says, rounded."""
        self.forwards += len(index)
        rows = self._rows(self._ask(_filled_up(inputs)))[:len(index)]
        rows = rows.float().cpu().numpy()
        with np.errstate(over='ignore'):  # told below
            rows = rows.astype(self.store.dtype)
        if not np.isfinite(rows).all():
            raise TeacherCacheError(
                f'logits of the teacher {type(self.live.teacher).__name__} '
                f'are not finite in {self.store.dtype.name}: set dtype='
                "'float32' of the TeacherCacheHook, or see whether the "
                'teacher is broken')
        self.store.write(index, rows)
        if self.store.failure is not None and not self._logged:
            self._logged = True
            print_log(
                f'Teacher cache: {self.store.folder} takes no more '
                f'({self.store.failure}). The run goes on and asks the '
                'teacher.',
                logger='current',
                level=logging.WARNING)
        return rows

    def _as_record(self, rows: np.ndarray, device) -> LocalLogits:
        rows = torch.from_numpy(np.ascontiguousarray(rows.swapaxes(0, 1)))
        if device.type == 'cuda':
            rows = rows.pin_memory()
        rows = rows.to(device, non_blocking=True).float()
        true = None
        if self._with_global:
            rows, true = rows[:-1], rows[-1]
        if self.base_only:
            rows = expand_base(rows, self.scales, self.pooling, self.map_size)
        return LocalLogits(rows, self.scales, self.pooling, true)


def _filled_up(inputs: Tensor) -> Tensor:
    """Images with copies of the last, so that company changes no answer.

    On a CPU convolutions of few images differ in their last bits from those
    of 16 and more. On a GPU cuDNN has its own way for every number of images:
    multiples of 16 are few.
    """
    least = max(FEWEST, len(inputs))
    if inputs.is_cuda:
        least += -least % FEWEST
    if least == len(inputs):
        return inputs
    more = inputs[-1:].expand(least - len(inputs), *inputs.shape[1:])
    return torch.cat([inputs, more])


def _check_views(model, dataset) -> None:
    """The teacher must see nothing but the numbered views."""
    if not isinstance(dataset, InMemoryDataset):
        raise TeacherCacheError(
            'a teacher cache needs augmentations that are a discrete set of '
            'views, numbered: set train_dataloader.dataset=dict('
            "type='InMemoryDataset', dataset=...), not "
            f'{type(dataset).__name__}')
    if type(model.data_preprocessor) not in PREPROCESSORS:
        raise TeacherCacheError(
            f'what {type(model.data_preprocessor).__name__} does to images is '
            'not known to be the same every time: set model.data_preprocessor'
            f'.type to one of {[kind.__name__ for kind in PREPROCESSORS]}, or '
            'leave out the TeacherCacheHook')
    if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
        raise TeacherCacheError(
            'batch augmentations (Mixup, CutMix) mix images anew in every '
            'step, which is no discrete set of views: set '
            'model.architecture.train_cfg=None, or leave out the '
            'TeacherCacheHook')


def _asked(distiller):
    """Scales, pooling, and whether true global logits are asked for."""
    if len(distiller.deliveries.deliveries):
        raise TeacherCacheError('deliveries carry data from the teacher to '
                                'the student, which a teacher cache does not '
                                'hold: leave out '
                                'model.distiller.distill_deliveries')
    grids, with_global = [], False
    for name, mapping in distiller.loss_forward_mappings.items():
        loss = distiller.distill_losses[name]
        teacher = [
            record for record in mapping.values()
            if not record.get('from_student')
        ]
        plain = all(record['recorder'] == HEAD and 'connector' not in record
                    for record in teacher)
        if teacher and not (isinstance(loss, RecordLoss) and plain):
            raise TeacherCacheError(
                f'distill loss {name!r} ({type(loss).__name__}) needs more of '
                'the teacher than the logits that a teacher cache holds: '
                'leave out the TeacherCacheHook')
        if isinstance(loss, RecordLoss):
            with_global |= loss.asks_logits
            if loss.grid is not None and loss.grid not in grids:
                grids.append(loss.grid)
    if len(grids) > 1:
        raise TeacherCacheError(
            'the distill losses ask for different cells, a teacher cache '
            f'holds one grid (scales, pooling): {grids}')
    scales, pooling = grids[0] if grids else ((1, ), 'direct')
    if pooling == 'direct' and 1 in scales:
        with_global = False  # its own cell
    return scales, pooling, with_global


def _normalization(model) -> list:
    """What happens to the images on their way to the teacher."""
    own = model.data_preprocessor
    steps = [
        InputFormat.of_model(model)[:3],
        getattr(own, 'pad_size_divisor', 1),
        getattr(own, 'pad_value', 0)
    ]
    if model.convert is not None:
        steps.append(InputFormat.of_model(model.teacher)[:3])
    return [str(step) for step in steps]
