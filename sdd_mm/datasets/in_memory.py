# Copyright (c) sdd_mm contributors. All rights reserved.
import hashlib
import time
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.dataset import BaseDataset, force_full_init
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import get_worker_info

from ..memory import available_memory, size_text
from ..runtime.sample_seeding import Draw, DrawnDataset, stream_seed
from ..structures import DataSampleBatch
from .views import ViewPipeline


@DATASETS.register_module()
class InMemoryDataset:
    """A data set as one tensor of bytes that yields whole batches.

    Takes any data set of MMPretrain whose pipeline consists of transforms
    without random choices (``LoadImageFromFile``, ``Resize``, ``ResizeEdge``,
    ``CenterCrop``, ``EfficientNetCenterCrop``, ``Pad``), then at most a
    ``RandomCrop`` and at most a horizontal ``RandomFlip``, then
    ``PackInputs``. The fixed transforms run once per image. The others choose
    one of a discrete set of views, numbered as in :class:`ViewPipeline`, and
    each view has the bytes that the pipeline would give.

    Only the random generator differs: the data set has its own, seeded by
    ``ExactResumeHook`` for every batch or, without that hook, by the runner's
    seed and the rank at the first batch. Two runs with the same seed see the
    same images and views, whatever else draws random numbers.

    The dataloader receives finished batches: set ``num_workers=0`` (workers
    cannot share a tensor on a GPU, and slow down one on the CPU),
    ``pin_memory=False`` and ``collate_fn=dict(type='batch_or_collate')``. A
    batch has one :class:`DataSampleBatch` or, with ``test_mode=True`` of the
    data set, one ``DataSample`` per image, which evaluators need.

    Args:
        dataset (dict | BaseDataset): The data set.
        device (str): Device of the images: 'cuda', 'cpu', or 'auto', the
            current GPU if there is one. Defaults to 'auto'.
        lazy_init (bool): Whether to load the images only in ``full_init()``.
            Defaults to False.

    Raises:
        ValueError: If the views of the pipeline are not a discrete set, or
            the images are not bytes of one size with one label each.
        MemoryError: If the images do not fit into the free memory.

    Examples:
        >>> # in a config
        >>> train_dataloader = dict(
        ...     num_workers=0,
        ...     pin_memory=False,
        ...     collate_fn=dict(type='batch_or_collate'),
        ...     dataset=dict(
        ...         _delete_=True,
        ...         type='InMemoryDataset',
        ...         dataset=_base_.train_dataloader.dataset))
    """

    knows_draws = True  # of runtime/sample_seeding.py

    def __init__(self,
                 dataset: Union[dict, BaseDataset],
                 device: str = 'auto',
                 lazy_init: bool = False) -> None:
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dict(dataset, lazy_init=True))
        self._title = f'InMemoryDataset of {type(dataset).__name__}'
        if not isinstance(dataset, BaseDataset):
            raise ValueError(
                f'{self._title}: only a data set of images can be wrapped: '
                'put wrappers such as RepeatDataset around InMemoryDataset')
        if (type(dataset).prepare_data is not BaseDataset.prepare_data
                or type(dataset).__getitem__ is not BaseDataset.__getitem__):
            raise ValueError(
                f'{self._title}: {type(dataset).__name__} overrides '
                'prepare_data or __getitem__, so that its samples are not '
                'those of its pipeline: remove InMemoryDataset')
        if device not in ('auto', 'cpu', 'cuda'):
            raise ValueError(f"{self._title}: device must be 'auto', 'cpu' or "
                             f"'cuda', got {device!r}")
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.dataset = dataset
        self.device = device
        self._pipeline = ViewPipeline(dataset.pipeline.transforms, self._title)
        self._generator: Optional[torch.Generator] = None
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Load all images."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        count = len(self.dataset)
        if count == 0:
            raise ValueError(f'{self._title} is empty')
        image, _, self._img_shape = self._read(0)
        self._pipeline.set_size(*image.shape[1:])
        self._check_memory(count * image.numel())
        print_log(
            f'{self._title}: {count} images of {tuple(image.shape)} bytes, '
            f'{size_text(count * image.numel())} on {self.device}, '
            f'{len(self._pipeline.views)} views each',
            logger='current')
        self._images = torch.empty((count, *image.shape),
                                   dtype=torch.uint8,
                                   device=self.device)
        self._infos = self._load(count)
        self._labels = torch.tensor([info['gt_label'] for info in self._infos],
                                    device=self.device)
        self._fully_initialized = True

    def _read(self, index: int) -> Tuple[Tensor, dict, tuple]:
        """A padded image, the other fields of its sample, and its shape."""
        image, info = self._pipeline.run_fixed(
            self.dataset.get_data_info(index), index)
        label = info.get('gt_label')
        title = f'{self._title}: image {index} ({info.get("img_path")})'
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise ValueError(f'{title} is not an array of bytes')
        if np.size(label) != 1 or label is None or 'gt_score' in info:
            raise ValueError(f'{title} must have one gt_label, got {label}')
        info['gt_label'] = int(np.asarray(label).reshape(()))
        return self._pipeline.pad(image), info, image.shape

    def _check_memory(self, size: int) -> None:
        free = _free_memory(self.device)
        if size > free:
            raise MemoryError(
                f'{self._title}: the images need {size_text(size)}, but only '
                f'{size_text(free)} of {self.device} memory is free: remove '
                "InMemoryDataset, or set another device ('cpu', 'cuda')")

    def _load(self, count: int) -> list:
        """Fill the tensor, and return the other fields of the samples."""
        infos, logged = [], time.monotonic()
        for index, target in enumerate(self._images):
            image, info, _ = self._read(index)
            if image.shape != target.shape:
                raise ValueError(
                    f'{self._title}: image {index} ({info.get("img_path")}) '
                    f'has shape {tuple(image.shape)}, the first one '
                    f'{tuple(target.shape)}: let the pipeline resize or crop '
                    'all images to one size')
            target.copy_(image)
            infos.append(info)
            if time.monotonic() - logged > 10:
                logged = time.monotonic()
                print_log(
                    f'{self._title}: {index + 1} of {count} images are loaded',
                    logger='current')
        return infos

    @property
    @force_full_init
    def num_views(self) -> int:
        """Number of views per image."""
        return len(self._pipeline.views)

    @force_full_init
    def views(self) -> np.ndarray:
        """Top, left and flip of every view, (num_views, 3)."""
        return self._pipeline.views.copy()

    @force_full_init
    def batch(self, image_ids: Sequence[int], view_ids: Sequence[int]) -> dict:
        """The given views of the given images.

        Args:
            image_ids (Sequence[int]): Positions in the data set, (B,).
            view_ids (Sequence[int]): Their views, (B,).

        Returns:
            dict: ``inputs``, bytes of (B, C, H, W), and ``data_samples``, a
            list of one :class:`DataSampleBatch`.
        """
        image_ids = self._ids(image_ids, len(self), 'images')
        view_ids = self._ids(view_ids, self.num_views, 'views')
        if len(image_ids) != len(view_ids):
            raise ValueError(f'{self._title}: the batch has {len(image_ids)} '
                             f'images and {len(view_ids)} views')
        index = torch.from_numpy(
            np.stack([image_ids, *self._pipeline.views[view_ids].T]))
        if self._images.is_cuda:
            if get_worker_info() is not None:
                raise RuntimeError(
                    f'{self._title}: workers cannot read images on a GPU: set '
                    "its dataloader's num_workers=0 or dataset.device='cpu'")
            index = index.pin_memory().to(
                self._images.device, non_blocking=True)
        with _one_thread():
            inputs = self._pipeline.cut(self._images, *index)
            labels = self._labels[index[0]]
        sample = DataSampleBatch(
            gt_label=labels,
            metainfo=dict(image_ids=image_ids, view_ids=view_ids))
        return dict(inputs=inputs, data_samples=[sample])

    def _ids(self, values: Sequence[int], stop: int, what: str) -> np.ndarray:
        """Positions as int64, (B,); a wrong one would crash a GPU later."""
        ids = np.asarray(values, dtype=np.int64)
        if ids.ndim != 1 or ((ids < 0) | (ids >= stop)).any():
            raise IndexError(f'{self._title} has {stop} {what}, got the '
                             f'positions {values}')
        return ids

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A finished batch with random views, for a DataLoader."""
        views = self._draw(indices)
        batch = self.batch(indices, views)
        if self.test_mode:
            batch['data_samples'] = [
                self._sample(*ids) for ids in zip(indices, views)
            ]
        return batch

    @force_full_init
    def __getitem__(self, index: int) -> dict:
        """One sample, as the pipeline gives it."""
        view = self._draw([index])
        index = range(len(self))[index]
        inputs, = self.batch([index], view)['inputs']
        return dict(inputs=inputs, data_samples=self._sample(index, view[0]))

    def _sample(self, index: int, view: int) -> DataSample:
        return self._pipeline.pack_sample(self._infos[index], view,
                                          self._img_shape)

    def _draw(self, indices: Sequence[int]) -> np.ndarray:
        """Random views, one per image."""
        if self.num_views == 1:
            return np.zeros(len(indices), np.int64)
        first, current = indices[0], DrawnDataset.current
        if isinstance(first, Draw):
            generator = torch.Generator().manual_seed(first.seed)
        elif current is not None:  # a wrapper may read several images
            generator = torch.Generator().manual_seed(
                stream_seed(*current.key, int(first)))
        else:
            generator = self._own_generator()
        return self._pipeline.draw(len(indices), generator)

    def _own_generator(self) -> torch.Generator:
        """The generator of this process, or of a worker in this epoch."""
        worker = get_worker_info()
        seed = [0 if worker is None else worker.seed, torch.initial_seed()]
        if self._generator is None or seed != self._seed:
            self._seed = seed
            # a hash, because the seed itself gives the stream of shuffling
            mixed = np.random.SeedSequence([*seed, get_rank()
                                            ]).generate_state(1, np.uint64)
            self._generator = torch.Generator().manual_seed(int(mixed[0]))
        return self._generator

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the images and their views, without the labels."""
        self.full_init()
        settings, images = self._pipeline.key(self._images)
        digest = hashlib.sha256(repr(settings).encode())
        for part in images.split(256):
            digest.update(part.contiguous().cpu().numpy())
        return digest.hexdigest()

    @force_full_init
    def __len__(self) -> int:
        return len(self._images)

    @property
    def test_mode(self) -> bool:
        """Whether a batch has one data sample per image."""
        return self.dataset.test_mode

    @property
    def metainfo(self) -> dict:
        """Meta information of the data set."""
        return self.dataset.metainfo

    @property
    def CLASSES(self) -> Any:
        """Names of the classes."""
        return self.metainfo.get('classes')

    def get_data_info(self, idx: int) -> dict:
        """Fields of an image before the pipeline."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list:
        """The class of an image, as a list."""
        return self.dataset.get_cat_ids(idx)

    @force_full_init
    def get_gt_labels(self) -> np.ndarray:
        """The labels of all images."""
        return self._labels.cpu().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run the operators of this block on one thread of the CPU.

    A batch of CIFAR takes less than a millisecond. On busy cores several
    threads wait for each other, and it takes tens of milliseconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _free_memory(device: str) -> int:
    """Free bytes of a device's memory."""
    if device == 'cuda':
        return torch.cuda.mem_get_info()[0]
    return available_memory()
