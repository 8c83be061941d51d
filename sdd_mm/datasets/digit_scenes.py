# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import List, Optional

import cv2
import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS


@DATASETS.register_module()
class DigitScenes(BaseDataset):
    """Small scenes composed of real handwritten digits.

    The largest digit is the label; smaller digits of any class are beside and
    behind it. So a region of a scene often shows another class than the whole
    scene, which is what SDD is about. The digits are the 1,797 of the UCI set
    that comes with scikit-learn; train and test scenes use disjoint digits.

    Args:
        split (str): 'train' or 'test'; or 'fit' or 'held_out', two parts of
            the training digits for choosing settings.
        num_scenes (int): Number of scenes, at least 1.
        seed (int): Seed of the composition. Defaults to 0.
        size (int): Height and width of a scene in pixels. Defaults to 32.
        main_size (tuple[int]): Smallest and largest size of the dominant
            digit in pixels. Defaults to (15, 17).
        others (int): Number of other digits. Defaults to 4.
        other_size (tuple[int]): Smallest and largest size of another digit.
            Defaults to (10, 12).
        other_brightness (float): Brightness of the other digits, relative to
            the dominant one. Defaults to 0.9.
        covered (float): Factor for the brightness of what the dominant digit
            covers. Defaults to 0.6.
        noise (float): Standard deviation of the Gaussian noise, relative to
            the brightness of the dominant digit. Defaults to 0.25.
        with_label (bool): Whether scenes have labels. Defaults to True.
        **kwargs: The other arguments of ``BaseDataset``.

    Examples:
        >>> # in a config
        >>> dataset = dict(
        ...     type='DigitScenes', split='train', num_scenes=1500,
        ...     pipeline=[dict(type='PackInputs')])
    """

    METAINFO = {'classes': [str(digit) for digit in range(10)]}
    splits = dict(
        train=slice(0, 1200),
        test=slice(1200, None),
        fit=slice(0, 960),
        held_out=slice(960, 1200))

    def __init__(self,
                 split: str,
                 num_scenes: int,
                 seed: int = 0,
                 size: int = 32,
                 main_size: tuple = (15, 17),
                 others: int = 4,
                 other_size: tuple = (10, 12),
                 other_brightness: float = 0.9,
                 covered: float = 0.6,
                 noise: float = 0.25,
                 with_label: bool = True,
                 metainfo: Optional[dict] = None,
                 **kwargs) -> None:
        if split not in self.splits:
            raise ValueError(f'split must be one of {list(self.splits)}, got '
                             f'{split!r}')
        if not (isinstance(num_scenes, int) and num_scenes > 0):
            raise ValueError('num_scenes must be a positive integer, got '
                             f'{num_scenes!r}')
        self.split = split
        self.num_scenes = num_scenes
        self.seed = seed
        self.size = size
        self.main_size = main_size
        self.others = others
        self.other_size = other_size
        self.other_brightness = other_brightness
        self.covered = covered
        self.noise = noise
        self.with_label = with_label
        super().__init__(ann_file='', metainfo=metainfo, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Compose the scenes."""
        images, labels = self._digits()
        rng = np.random.default_rng(
            [self.seed, list(self.splits).index(self.split)])
        scenes = [
            self._compose(images, labels, rng) for _ in range(self.num_scenes)
        ]
        if not self.with_label:
            for scene in scenes:
                del scene['gt_label']
        return scenes

    def _digits(self):
        """The digits of the split, in [0, 1], and their labels."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError(
                'DigitScenes needs the digits of scikit-learn: pip install '
                'scikit-learn') from error
        digits = load_digits()
        # one shuffle for all seeds and splits, so that splits are disjoint
        order = np.random.default_rng(0).permutation(len(digits.target))
        chosen = order[self.splits[self.split]]
        return (digits.images[chosen].astype(np.float32) / 16,
                digits.target[chosen])

    def _compose(self, images, labels, rng) -> dict:
        scene = np.zeros((self.size, self.size), np.float32)
        for _ in range(self.others):
            self._draw(scene, images[rng.integers(len(images))],
                       self.other_size, self.other_brightness, 1.0, rng)
        main = rng.integers(len(images))
        self._draw(scene, images[main], self.main_size, 1.0, self.covered, rng)
        scene += rng.normal(0, self.noise, scene.shape).astype(np.float32)
        pixels = (scene.clip(0, 1) * 255).round().astype(np.uint8)
        return dict(
            img=np.repeat(pixels[..., None], 3, axis=2),
            gt_label=int(labels[main]))

    def _draw(self, scene, digit, sizes, brightness, covered, rng) -> None:
        """Draw a digit at a random place, dimming what it covers."""
        side = int(rng.integers(sizes[0], sizes[1] + 1))
        top, left = rng.integers(0, self.size - side + 1, size=2)
        drawn = cv2.resize(digit, (side, side)) * brightness
        place = scene[top:top + side, left:left + side]
        place *= covered
        np.maximum(place, drawn, out=place)
