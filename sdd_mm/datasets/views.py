# Copyright (c) sdd_mm contributors. All rights reserved.
"""Pipelines whose random choices are a discrete set of numbered views."""
from typing import Any, NoReturn, Sequence, Tuple

import mmcv
import numpy as np
import torch
from mmcv.transforms import (CenterCrop, LoadImageFromFile, Pad, RandomFlip,
                             Resize)
from mmpretrain.datasets import (EfficientNetCenterCrop, PackInputs,
                                 RandomCrop, ResizeEdge)
from torch import Tensor

# transforms without random choices: they run once per image
FIXED = (LoadImageFromFile, Resize, ResizeEdge, CenterCrop,
         EfficientNetCenterCrop, Pad)


class ViewPipeline:
    """A pipeline, split into what runs once and what chooses a view.

    Fixed transforms, then at most a ``RandomCrop`` and at most a horizontal
    ``RandomFlip``, then ``PackInputs``. The views are numbered

    ``view = (top * num_left + left) * num_flips + flip``

    Args:
        transforms (Sequence): The transforms.
        title (str): Whose pipeline it is, for messages.

    Raises:
        ValueError: If the views are not a discrete set.
    """

    def __init__(self, transforms: Sequence, title: str) -> None:
        self.title = title
        steps = list(transforms)
        self.pack = _pop(steps, PackInputs)
        self.flip = _pop(steps, RandomFlip)
        self.crop = _pop(steps, RandomCrop)
        self.fixed = steps
        for step in steps:
            if type(step) not in FIXED:
                self._refuse(step, 'its views are not a known discrete set')
        if self.pack is None:
            raise ValueError(f'{title}: the pipeline must end in PackInputs')
        if self.pack.input_key != 'img' or self.pack.algorithm_keys:
            self._refuse(self.pack, 'only images and labels can be packed')
        if self.flip is not None and (not isinstance(self.flip.prob,
                                                     (int, float))
                                      or self.flip.direction != 'horizontal'):
            self._refuse(self.flip, 'flips must be horizontal')
        if self.crop is not None and (self.crop.padding_mode != 'constant'
                                      or self.crop.pad_if_needed):
            self._refuse(
                self.crop, "it must have padding_mode='constant' and "
                'pad_if_needed=False')

    def _refuse(self, step, reason: str) -> NoReturn:
        raise ValueError(
            f'{self.title}: {type(step).__name__} in its pipeline: {reason}. '
            f'Use {", ".join(kind.__name__ for kind in FIXED)}, then '
            'RandomCrop, then RandomFlip, then PackInputs (only the last one '
            'is required), or remove InMemoryDataset')

    def run_fixed(self, info: dict, index: int) -> Tuple[Any, dict]:
        """Run the fixed transforms.

        Args:
            info (dict): What the data set knows of an image.
            index (int): The image's position, for messages.

        Returns:
            tuple: The image, and the other fields of its sample.
        """
        for step in self.fixed:
            info = step(info)
            if info is None:
                raise ValueError(f'{self.title}: {type(step).__name__} '
                                 f'returned nothing for image {index}')
        return info.pop('img'), info

    def pad(self, image: np.ndarray) -> Tensor:
        """An image, (H, W, C), with the padding of ``RandomCrop``, (C, h, w).
        """
        if self.crop is not None and self.crop.padding is not None:
            # the function of RandomCrop, because OpenCV applies a pad_val of
            # one number to the first channel only
            image = mmcv.impad(
                image, padding=self.crop.padding, pad_val=self.crop.pad_val)
        return PackInputs.format_input(image)

    def set_size(self, height: int, width: int) -> None:
        """Number the views of padded images of this size."""
        crop = (height, width)
        if self.crop is not None:
            crop = tuple(self.crop.crop_size)
        if crop[0] > height or crop[1] > width:
            self._refuse(
                self.crop, f'it is larger than images of {height} x '
                f'{width}, padding included')
        prob = 0.0 if self.flip is None else self.flip.prob
        flips = {0.0: (0, ), 1.0: (1, )}.get(prob, (0, 1))
        self.crop_size = crop
        self.num_flips = len(flips)
        self.views = np.array([(top, left, flip)
                               for top in range(height - crop[0] + 1)
                               for left in range(width - crop[1] + 1)
                               for flip in flips])

    def draw(self, count: int, generator: torch.Generator) -> np.ndarray:
        """Draw ``count`` views by the law of the pipeline."""
        crops = len(self.views) // self.num_flips
        views = torch.randint(crops, (count, ), generator=generator)
        if self.num_flips == 2:
            flips = torch.rand(count, generator=generator) < self.flip.prob
            views = 2 * views + flips
        return views.numpy()

    def cut(self, images: Tensor, index: Tensor, top: Tensor, left: Tensor,
            flip: Tensor) -> Tensor:
        """Views of padded images, (B, C, H, W).

        Args:
            images (Tensor): All padded images, (n, C, h, w).
            index (Tensor): Positions of the images, (B,).
            top (Tensor): First rows of the views, (B,).
            left (Tensor): First columns, (B,).
            flip (Tensor): 1 where the view is flipped, (B,).
        """
        height, width = self.crop_size
        windows = images.unfold(2, height, 1).unfold(3, width, 1)
        inputs = windows[index, :, top, left]
        if self.flip is not None:
            flip = flip.bool()[:, None, None, None]
            inputs = torch.where(flip, inputs.flip(-1), inputs)
        return inputs

    def pack_sample(self, info: dict, view: int, img_shape: tuple):
        """The data sample of a view of an image of shape ``img_shape``."""
        info = dict(info)
        if self.crop is not None:
            info['img_shape'] = (*self.crop_size, *img_shape[2:])
        if self.flip is not None:
            flip = bool(self.views[view, 2])
            info.update(
                flip=flip, flip_direction='horizontal' if flip else None)
        return self.pack(info)['data_samples']

    def key(self, images: Tensor) -> Tuple[tuple, Tensor]:
        """What the views depend on: settings, and images without padding."""
        channels, height, width = images.shape[1:]
        left = top = right = bottom = 0
        value = None
        if self.crop is not None and self.crop.padding is not None:
            padding = self.crop.padding
            if isinstance(padding, int):
                padding = (padding, ) * 4
            left, top, right, bottom = (*padding, *padding)[:4]
            corner = mmcv.impad(
                np.zeros((1, 1, channels), np.uint8),
                padding=1,
                pad_val=self.crop.pad_val)
            value = corner[0, 0].tolist()
        inner = images[:, :, top:height - bottom, left:width - right]
        flips = sorted(set(self.views[:, 2].tolist()))
        return (tuple(inner.shape), self.crop_size, (left, top, right, bottom),
                value, flips), inner


def _pop(steps: list, kind: type):
    """Remove and return the last of the steps, if it is of a kind."""
    return steps.pop() if steps and type(steps[-1]) is kind else None
