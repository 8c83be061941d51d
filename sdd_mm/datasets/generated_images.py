# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import List, Optional

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from .paired_inputs import TEACHER


@DATASETS.register_module()
class GeneratedImages(BaseDataset):
    """Random images with random labels, to try a config without data.

    Args:
        num_images (int): Number of images.
        num_classes (int): Number of classes.
        image_size (tuple[int]): Height and width in pixels, before the
            pipeline.
        channels (int): Number of channels; 0: images are (H, W). Defaults to
            3.
        dtype (str): Type of its values, from 0 to 255. Defaults to 'uint8'.
        teacher_channels (int, optional): Number of channels of a second image
            for the teacher. Defaults to None: there is none.
        **kwargs: The other arguments of ``BaseDataset``.
    """

    def __init__(self,
                 num_images: int,
                 num_classes: int,
                 image_size: tuple,
                 channels: int = 3,
                 dtype: str = 'uint8',
                 teacher_channels: Optional[int] = None,
                 **kwargs) -> None:
        self.num_images = num_images
        self.num_classes = num_classes
        self.image_size = tuple(image_size)
        self.channels = channels
        self.dtype = dtype
        self.teacher_channels = teacher_channels
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> List[dict]:
        """Labels; images are generated when they are read."""
        labels = np.random.default_rng(0).integers(
            self.num_classes, size=self.num_images)
        return [dict(gt_label=int(label)) for label in labels]

    def get_data_info(self, idx: int) -> dict:
        """Label and image of a sample."""
        info = super().get_data_info(idx)
        rng = np.random.default_rng(idx)
        size = self.image_size
        info.update(
            img=self._image(rng, self.channels),
            img_shape=size,
            ori_shape=size)
        if self.teacher_channels is not None:
            info[TEACHER] = self._image(rng, self.teacher_channels)
        return info

    def _image(self, rng: np.random.Generator, channels: int) -> np.ndarray:
        size = self.image_size
        shape = (*size, channels) if channels else size
        return rng.integers(256, size=shape, dtype=np.uint8).astype(self.dtype)
