# Copyright (c) sdd_mm contributors. All rights reserved.
import hashlib
import time
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import mmcv
import numpy as np
import torch
from mmcv.transforms import (CenterCrop, LoadImageFromFile, Pad, RandomFlip,
                             Resize)
from mmengine.dataset import BaseDataset, force_full_init
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmpretrain.datasets import (EfficientNetCenterCrop, PackInputs,
                                 RandomCrop, ResizeEdge)
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import get_worker_info

from ..memory import available_memory, size_text
from ..runtime.sample_seeding import Draw, DrawnDataset, stream_seed
from ..structures import DataSampleBatch

# transforms that draw nothing: run once for an image
STILL = (LoadImageFromFile, Resize, ResizeEdge, CenterCrop,
         EfficientNetCenterCrop, Pad)


@DATASETS.register_module()
class InMemoryDataset:
    """A data set as one tensor of bytes, whole batches at a time.

    Any data set of MMPretrain with its own pipeline, if that consists of
    transforms that draw nothing (``LoadImageFromFile``, ``Resize``,
    ``ResizeEdge``, ``CenterCrop``, ``EfficientNetCenterCrop``, ``Pad``), then
    at most a ``RandomCrop`` and at most a horizontal ``RandomFlip``, then
    ``PackInputs``. The first are run once for each image. What the others
    draw is a discrete set of views, numbered as

    ``view = (top * num_left + left) * num_flips + flip``

    and each view has the bytes that the pipeline would give. Where views are
    drawn is the only difference: from a random generator of this data set's
    own, seeded by what ``ExactResumeHook`` says of the draw, without that hook
    by the runner's seed and the rank at the first draw. Two runs of one seed
    see the same images and views, whatever else draws numbers.

    A dataloader gets finished batches, so it needs ``num_workers=0`` (a tensor
    on a GPU cannot be shared with workers; on the CPU they work, and are
    slower), ``pin_memory=False`` and ``collate_fn=dict(
    type='batch_or_collate')``. A batch has one :class:`DataSampleBatch`, or
    one ``DataSample`` an image where the data set has ``test_mode=True``:
    evaluators need those.

    Args:
        dataset (dict | BaseDataset): The data set.
        device (str): Where the images are kept: 'cuda', 'cpu', or 'auto', the
            current GPU if there is one. Defaults to 'auto'.
        lazy_init (bool): Whether to wait with loading for ``full_init()``.
            Defaults to False.

    Raises:
        ValueError: If the views of the pipeline are not a discrete set, or
            the images are not bytes in one size with one label each.
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
                f'{self._title}: only a data set of images can be wrapped. '
                'Put wrappers such as RepeatDataset around InMemoryDataset')
        if (type(dataset).prepare_data is not BaseDataset.prepare_data
                or type(dataset).__getitem__ is not BaseDataset.__getitem__):
            raise ValueError(f'{self._title}: it has a way of its own to make '
                             'a sample, beside its pipeline')
        if device not in ('auto', 'cpu', 'cuda'):
            raise ValueError(f"{self._title}: device must be 'auto', 'cpu' or "
                             f"'cuda', got {device!r}")
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.dataset = dataset
        self.device = device
        self._split_pipeline()
        self._generator: Optional[torch.Generator] = None
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def _split_pipeline(self) -> None:
        """What is run once, what is drawn, and what packs the sample."""
        steps = list(self.dataset.pipeline.transforms)
        self._pack = self._take(steps, PackInputs)
        self._flip = self._take(steps, RandomFlip)
        self._crop = self._take(steps, RandomCrop)
        self._still = steps
        for step in steps:
            if type(step) not in STILL:
                self._refuse(step, 'its views are not a known discrete set')
        if self._pack is None:
            raise ValueError(f'{self._title}: the pipeline must end in '
                             'PackInputs')
        if self._pack.input_key != 'img' or self._pack.algorithm_keys:
            self._refuse(self._pack, 'only images and labels can be packed')
        if self._flip is not None and (not isinstance(self._flip.prob,
                                                      (int, float)) or
                                       self._flip.direction != 'horizontal'):
            self._refuse(self._flip, 'flips must be horizontal')
        if self._crop is not None and (self._crop.padding_mode != 'constant'
                                       or self._crop.pad_if_needed):
            self._refuse(
                self._crop, "it must have padding_mode='constant' and "
                'pad_if_needed=False')

    def _take(self, steps: list, kind: type):
        """The last of the steps, if it is of a kind."""
        return steps.pop() if steps and type(steps[-1]) is kind else None

    def _refuse(self, step, reason: str) -> None:
        raise ValueError(
            f'{self._title}: {type(step).__name__} in its pipeline: {reason}. '
            f'In memory a pipeline is {", ".join(t.__name__ for t in STILL)}, '
            'then RandomCrop, then RandomFlip, then PackInputs (only the last '
            'is necessary). With another one, leave out InMemoryDataset')

    def full_init(self) -> None:
        """Load all images."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        count = len(self.dataset)
        if count == 0:
            raise ValueError(f'{self._title} is empty')
        image, _, self._img_shape = self._read(0)
        self._set_views(image.shape)
        self._check_memory(count * image.numel())
        print_log(
            f'{self._title}: {count} images of {tuple(image.shape)} bytes, '
            f'{size_text(count * image.numel())} on {self.device}, '
            f'{len(self._views)} views each',
            logger='current')
        self._images = torch.empty((count, *image.shape),
                                   dtype=torch.uint8,
                                   device=self.device)
        self._infos = self._load(count)
        self._labels = torch.tensor([info['gt_label'] for info in self._infos],
                                    device=self.device)
        self._fully_initialized = True

    def _read(self, index: int) -> Tuple[Tensor, dict, tuple]:
        """A padded image, what else its sample has, and its own shape."""
        info = self.dataset.get_data_info(index)
        for step in self._still:
            info = step(info)
            if info is None:
                raise ValueError(f'{self._title}: {type(step).__name__} gives '
                                 f'nothing for image {index}')
        image, label = info.pop('img'), info.get('gt_label')
        title = f'{self._title}: image {index} ({info.get("img_path")})'
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise ValueError(f'{title} is not an array of bytes')
        if np.size(label) != 1 or label is None or 'gt_score' in info:
            raise ValueError(f'{title} must have one gt_label, it has {label}')
        info['gt_label'] = int(np.asarray(label).reshape(()))
        shape = image.shape
        if self._crop is not None and self._crop.padding is not None:
            # by the very function of RandomCrop: OpenCV takes a pad_val of
            # one number for the first channel alone
            image = mmcv.impad(
                image, padding=self._crop.padding, pad_val=self._crop.pad_val)
        return PackInputs.format_input(image), info, shape

    def _set_views(self, shape: Sequence[int]) -> None:
        """Number the views of a padded image."""
        height, width = shape[1:]
        crop = (height, width)
        if self._crop is not None:
            crop = tuple(self._crop.crop_size)
        if crop[0] > height or crop[1] > width:
            self._refuse(
                self._crop, f'it is larger than images of {height} x '
                f'{width}, padding included')
        prob = 0.0 if self._flip is None else self._flip.prob
        flips = {0.0: (0, ), 1.0: (1, )}.get(prob, (0, 1))
        self._crop_size = crop
        self._views = np.array([(top, left, flip)
                                for top in range(height - crop[0] + 1)
                                for left in range(width - crop[1] + 1)
                                for flip in flips])
        self._num_flips = len(flips)

    def _check_memory(self, size: int) -> None:
        free = _free_memory(self.device)
        if size > free:
            raise MemoryError(
                f'{self._title}: the images take {size_text(size)}, and '
                f'{size_text(free)} of {self.device} memory are free. Leave '
                "out InMemoryDataset, or try another device ('cpu', 'cuda')")

    def _load(self, count: int) -> list:
        """Fill the tensor; return what else the samples have."""
        infos, told = [], time.monotonic()
        for index, target in enumerate(self._images):
            image, info, _ = self._read(index)
            if image.shape != target.shape:
                raise ValueError(
                    f'{self._title}: image {index} ({info.get("img_path")}) '
                    f'has the shape {tuple(image.shape)}, the first one '
                    f'{tuple(target.shape)}: let the pipeline resize or crop '
                    'all to one size')
            target.copy_(image)
            infos.append(info)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print_log(
                    f'{self._title}: {index + 1} of {count} images are loaded',
                    logger='current')
        return infos

    @property
    @force_full_init
    def num_views(self) -> int:
        """How many views an image has."""
        return len(self._views)

    @force_full_init
    def views(self) -> np.ndarray:
        """Top, left and flip of every view, (num_views, 3)."""
        return self._views.copy()

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
            raise ValueError(f'{self._title}: {len(image_ids)} images and '
                             f'{len(view_ids)} views')
        index = torch.from_numpy(
            np.stack([image_ids, *self._views[view_ids].T]))
        if self._images.is_cuda:
            if get_worker_info() is not None:
                raise RuntimeError(
                    f'{self._title}: its images are on a GPU, which a worker '
                    'cannot reach: set num_workers=0 of its dataloader, or '
                    "dataset.device='cpu'")
            index = index.pin_memory().to(
                self._images.device, non_blocking=True)
        with _one_thread():
            inputs = self._cut(*index)
            labels = self._labels[index[0]]
        sample = DataSampleBatch(
            gt_label=labels,
            metainfo=dict(image_ids=image_ids, view_ids=view_ids))
        return dict(inputs=inputs, data_samples=[sample])

    def _cut(self, image: Tensor, top: Tensor, left: Tensor,
             flip: Tensor) -> Tensor:
        """Views of images, (B, C, H, W)."""
        height, width = self._crop_size
        windows = self._images.unfold(2, height, 1).unfold(3, width, 1)
        inputs = windows[image, :, top, left]
        if self._flip is not None:
            flip = flip.bool()[:, None, None, None]
            inputs = torch.where(flip, inputs.flip(-1), inputs)
        return inputs

    def _ids(self, values: Sequence[int], stop: int, what: str) -> np.ndarray:
        """Checked here, because a GPU would die of a wrong one."""
        ids = np.asarray(values, dtype=np.int64)
        if ids.ndim != 1 or ((ids < 0) | (ids >= stop)).any():
            raise IndexError(f'{self._title} has {stop} {what}, asked for '
                             f'{values}')
        return ids

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A finished batch of drawn views; a DataLoader asks for it."""
        views = self._draw(indices)
        batch = self.batch(indices, views)
        if self.test_mode:
            batch['data_samples'] = [
                self._sample(*ids) for ids in zip(indices, views)
            ]
        return batch

    @force_full_init
    def __getitem__(self, index: int) -> dict:
        """One sample, as the pipeline would give it."""
        view = self._draw([index])
        index = range(len(self))[index]
        inputs, = self.batch([index], view)['inputs']
        return dict(inputs=inputs, data_samples=self._sample(index, view[0]))

    def _sample(self, index: int, view: int) -> DataSample:
        info = dict(self._infos[index])
        if self._crop is not None:
            info['img_shape'] = (*self._crop_size, *self._img_shape[2:])
        if self._flip is not None:
            flip = bool(self._views[view, 2])
            info.update(
                flip=flip, flip_direction='horizontal' if flip else None)
        return self._pack(info)['data_samples']

    def _draw(self, indices: Sequence[int]) -> np.ndarray:
        """Views for images."""
        count = len(indices)
        if len(self._views) == 1:
            return np.zeros(count, np.int64)
        first, asked = indices[0], DrawnDataset.current
        if isinstance(first, Draw):
            generator = torch.Generator().manual_seed(first.seed)
        elif asked is not None:  # of a wrapper, maybe for several images
            generator = torch.Generator().manual_seed(
                stream_seed(*asked.key, int(first)))
        else:
            generator = self._own_generator()
        crops = len(self._views) // self._num_flips
        views = torch.randint(crops, (count, ), generator=generator)
        if self._num_flips == 2:
            flips = torch.rand(count, generator=generator) < self._flip.prob
            views = 2 * views + flips
        return views.numpy()

    def _own_generator(self) -> torch.Generator:
        """A worker has a new seed every epoch, a process keeps its own."""
        worker = get_worker_info()
        seed = [0 if worker is None else worker.seed, torch.initial_seed()]
        if self._generator is None or seed != self._seed:
            self._seed = seed
            # a hash, or the stream would be the one that shuffles images
            mixed = np.random.SeedSequence([*seed, get_rank()
                                            ]).generate_state(1, np.uint64)
            self._generator = torch.Generator().manual_seed(int(mixed[0]))
        return self._generator

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the images and their views, not of the labels."""
        self.full_init()
        channels, height, width = self._images.shape[1:]
        left = top = right = bottom = 0
        value = None
        if self._crop is not None and self._crop.padding is not None:
            padding = self._crop.padding
            if isinstance(padding, int):
                padding = (padding, ) * 4
            left, top, right, bottom = (*padding, *padding)[:4]
            corner = mmcv.impad(
                np.zeros((1, 1, channels), np.uint8),
                padding=1,
                pad_val=self._crop.pad_val)
            value = corner[0, 0].tolist()
        inner = self._images[:, :, top:height - bottom, left:width - right]
        flips = sorted(set(self._views[:, 2].tolist()))
        digest = hashlib.sha256(
            repr((tuple(inner.shape), self._crop_size,
                  (left, top, right, bottom), value, flips)).encode())
        for part in inner.split(256):
            digest.update(part.contiguous().cpu().numpy())
        return digest.hexdigest()

    @force_full_init
    def __len__(self) -> int:
        return len(self._images)

    @property
    def test_mode(self) -> bool:
        """Whether each image gets a data sample of its own."""
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
        """What the data set knows of an image before its pipeline."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list:
        """The class of an image in a list."""
        return self.dataset.get_cat_ids(idx)

    @force_full_init
    def get_gt_labels(self) -> np.ndarray:
        """The labels of all images."""
        return self._labels.cpu().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let operators of this block run on one thread of the CPU.

    A batch of CIFAR takes less than a millisecond. Where others keep the
    cores busy, threads that wait for each other make tens of it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _free_memory(device: str) -> int:
    """Bytes that can be taken."""
    if device == 'cuda':
        return torch.cuda.mem_get_info()[0]
    return available_memory()
