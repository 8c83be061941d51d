# Copyright (c) sdd_mm contributors. All rights reserved.
"""The teacher source that runs a frozen teacher once per view."""
import logging
import time
from typing import Optional

import mmpretrain
import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from ..datasets import InMemoryDataset
from ..functional.local_logits import base_logits, expand_base
from ..memory import size_text
from ..models.algorithms import FrozenTeacherDistill
from ..models.algorithms.teacher_inference import DTYPES as TEACHER_DTYPES
from ..models.recorders.feature_head_recorder import TOLERANCE
from ..models.records import FeatureHead, LocalLogits
from ..structures import DataSampleBatch
from .cacheable import (TeacherCacheError, check_cacheable, normalization_key,
                        request_of)
from .row_store import RowStore, RowStoreError

FORMAT = 1
"""Version of what a row holds; stores of another version are not read."""
DTYPES = ('float16', 'float32')
SMALLEST_BATCH = 16  # images that the teacher is run on


class TeacherCache:
    """The teacher's local logits of every view, computed once.

    Exact for a frozen teacher, whose logits depend on the view alone. A row
    per view holds the logits of the cells that all others are averages of
    and, if a loss needs them, the true global logits. A step that runs the
    teacher uses the rounded row that it stores, so that an empty cache and a
    full one give the same numbers.

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

    Examples:
        >>> model.teacher_source = TeacherCache(model, dataset)
        >>> losses = model(inputs, data_samples, mode='loss')
    """

    def __init__(self,
                 model: FrozenTeacherDistill,
                 dataset: InMemoryDataset,
                 cache_dir: Optional[str] = None,
                 dtype: str = 'float16') -> None:
        check_cacheable(model, dataset)
        if dtype not in DTYPES:
            raise TeacherCacheError(
                f'TeacherCacheHook.dtype must be one of {DTYPES}, got '
                f'{dtype!r}')
        self.live = model.teacher_source
        self.preprocess = model.data_preprocessor
        self.dataset = dataset
        self.scales, self.pooling, self._with_global = request_of(
            model.distiller)
        # enough images for the teacher's own checks to mean something
        some = np.arange(min(len(dataset), 32))
        first_view = np.zeros_like(some)
        record = self._run_teacher(self._inputs(some, first_view)[0])
        # behind a tail that is not linear no cell is an average of others
        self.base_only = isinstance(record, FeatureHead)
        # logits alone have no map behind them
        self.map_size = getattr(record, 'map_size', (1, 1))
        try:
            self.store = RowStore(
                key=dict(
                    format=FORMAT,
                    mmpretrain=mmpretrain.__version__,
                    teacher=model.teacher_hash,
                    network=model.teacher_network,
                    recorder=model.distiller.teacher_head.where,
                    teacher_inference=model.teacher_inference.options(),
                    normalization=normalization_key(model),
                    images=dataset.fingerprint,
                    num_views=dataset.num_views,
                    scales=list(self.scales),
                    pooling=self.pooling,
                    map_size=list(self.map_size),
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
        self._check_stored(self._index(some, first_view), self._rows(record))
        self.requested = self.forwards = 0
        self._warned = False
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
            LocalLogits: From the cache, or from the teacher for views that
            are seen for the first time.

        Raises:
            TeacherCacheError: If the batch has no image and view ids, or the
                teacher's logits are not finite in the cache's dtype.
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
        self.requested += len(index)
        if len(missing):
            if len(missing) < len(inputs):
                inputs = inputs[torch.from_numpy(missing).to(inputs.device)]
            rows[missing] = self._compute(inputs, index[missing])
        return self._as_record(rows, inputs.device)

    def fill(self, batch_size: int = 256) -> None:
        """Run the teacher on every view that is missing.

        Several processes share the work.

        Args:
            batch_size (int): Images per forward pass. Defaults to 256.
        """
        num_views, num_rows = self.dataset.num_views, self.store.num_rows
        before, start = self.forwards, time.monotonic()
        logged = start
        for first in range(get_rank() * batch_size, num_rows,
                           get_world_size() * batch_size):
            index = np.arange(first, min(first + batch_size, num_rows))
            index = index[~self.store.read(index)[1]]
            if len(index):
                inputs, _ = self._inputs(index // num_views, index % num_views)
                self._compute(inputs, index)
                if self.store.failure is not None:
                    return
            now = time.monotonic()
            if now - logged > 10:
                logged = now
                done = (first + batch_size) / num_rows
                forwards, seconds = self.forwards - before, now - start
                print_log(
                    f'Teacher cache: {done:.1%} of the views, {forwards:,} '
                    f'forwards, {forwards / seconds:,.0f} images/s, '
                    f'eta {seconds * (1 / done - 1) / 60:.0f} min',
                    logger='current')
        print_log(f'Teacher cache: {self}', logger='current')

    def _check_stored(self, index: np.ndarray, rows: Tensor) -> None:
        """Compare stored rows with the teacher's current logits.

        The key does not change when a network's code is edited in place.
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
                f'the logits of the teacher {type(self.live.teacher).__name__}'
                f' differ from those in {self.store.folder} by '
                f'{difference:.2g} of the largest. If you changed the '
                'teacher\'s code, delete this folder')

    def _index(self, image_ids: np.ndarray,
               view_ids: np.ndarray) -> np.ndarray:
        """Numbers of rows."""
        return np.asarray(image_ids) * self.dataset.num_views + view_ids

    def _inputs(self, image_ids, view_ids):
        """Views as the student gets them, and their data samples."""
        data = self.dataset.batch(image_ids, view_ids)
        data = self.preprocess(data, training=True)
        return data['inputs'], data['data_samples']

    def _run_teacher(self, inputs: Tensor):
        """The teacher's record of images."""
        # runs in mixed precision and in float32 share these rows: how the
        # teacher runs is decided by teacher_inference, which is in the key
        with torch.no_grad(), torch.autocast(
                inputs.device.type, enabled=False):
            record = self.live.record(inputs)
        self.live.distiller.reset_records()
        return record

    @torch.no_grad()
    def _rows(self, record) -> Tensor:
        """The rows of a record, (B, R, K)."""
        if self.base_only:
            rows = base_logits(record.feature, record.weight, record.bias,
                               self.scales, self.pooling)
        else:
            rows = record.local_logits(self.scales, self.pooling)
        if self._with_global:
            rows = torch.cat([rows, record.logits()[None]])
        return rows.transpose(0, 1)

    def _compute(self, inputs: Tensor, index: np.ndarray) -> np.ndarray:
        """Run the teacher, round its rows and store them."""
        self.forwards += len(index)
        rows = self._rows(self._run_teacher(_pad(inputs)))[:len(index)]
        rows = rows.float().cpu().numpy()
        with np.errstate(over='ignore'):  # the error below says it
            rows = rows.astype(self.store.dtype)
        if not np.isfinite(rows).all():
            raise TeacherCacheError(
                'the logits of the teacher '
                f'{type(self.live.teacher).__name__} are not finite in '
                f"{self.store.dtype.name}: set TeacherCacheHook.dtype="
                "'float32', or check the teacher's weights")
        self.store.write(index, rows)
        if self.store.failure is not None and not self._warned:
            self._warned = True
            print_log(
                f'Teacher cache: no more can be written to '
                f'{self.store.folder} ({self.store.failure}). The run '
                'continues and runs the teacher where a view is missing.',
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


def _pad(inputs: Tensor) -> Tensor:
    """Images with copies of the last one, so that logits do not depend on B.

    On a CPU convolutions of few images differ in their last bits from those
    of 16 and more. On a GPU cuDNN chooses an algorithm for every number of
    images; multiples of 16 leave few of them.
    """
    size = max(SMALLEST_BATCH, len(inputs))
    if inputs.is_cuda:
        size += -size % SMALLEST_BATCH
    if size == len(inputs):
        return inputs
    more = inputs[-1:].expand(size - len(inputs), *inputs.shape[1:])
    return torch.cat([inputs, more])
