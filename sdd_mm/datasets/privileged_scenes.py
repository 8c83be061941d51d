# Copyright (c) sdd_mm contributors. All rights reserved.
import cv2
import numpy as np
from mmpretrain.registry import DATASETS

from .digit_scenes import DigitScenes
from .paired_inputs import TEACHER

VIEWS = ('color', 'depth', 'both')


@DATASETS.register_module()
class PrivilegedDigitScenes(DigitScenes):
    """Scenes of digits in color, and how near everything in them is.

    As in ``DigitScenes``, the largest digit is the label, and smaller digits
    of any class are beside and behind it. The student sees colors that mean
    nothing, strokes that cross the scene, and noise. Depth is known without
    noise: 255 for the largest digit, less for those behind it, 0 for the
    background. It is privileged: there is none after training.

    Args:
        split (str): As in ``DigitScenes``.
        num_scenes (int): Number of scenes.
        view (str): What ``img`` is: 'color', (H, W, 3), or 'depth',
            (H, W, 1). 'both': ``img`` is the color and ``teacher_img`` the
            depth of the same scene.
        strokes (int): Number of strokes. Defaults to 2.
        others (int): Number of other digits. Defaults to 3.
        noise (float): Standard deviation of the noise of the colors, which
            are from 0 to 1. Defaults to 0.1.
        **kwargs: The other arguments of ``DigitScenes``.

    Examples:
        >>> # in a config
        >>> dataset = dict(
        ...     type='PrivilegedDigitScenes', split='train', num_scenes=1500,
        ...     view='both', pipeline=[dict(type='PackPairedInputs')])
    """

    def __init__(self,
                 split: str,
                 num_scenes: int,
                 view: str,
                 strokes: int = 2,
                 others: int = 3,
                 noise: float = 0.1,
                 **kwargs) -> None:
        if view not in VIEWS:
            raise ValueError(f'view must be one of {VIEWS}, got {view!r}')
        self.view = view
        self.strokes = strokes
        super().__init__(
            split, num_scenes, others=others, noise=noise, **kwargs)

    def _compose(self, images, labels, rng) -> dict:
        size = self.size
        color = np.ones((size, size, 3), np.float32) * rng.uniform(0, 0.3, 3)
        depth = np.zeros((size, size), np.float32)
        layers = [(rng.integers(len(images)), self.other_size, near)
                  for near in np.sort(rng.uniform(0.2, 0.6, self.others))]
        main = rng.integers(len(images))
        for digit, sizes, near in [*layers, (main, self.main_size, 1.)]:
            side = int(rng.integers(sizes[0], sizes[1] + 1))
            top, left = rng.integers(0, size - side + 1, size=2)
            place = slice(top, top + side), slice(left, left + side)
            ink = cv2.resize(images[digit], (side, side))
            paint = rng.uniform(0.4, 1, 3)
            color[place] += ink[..., None] * (paint - color[place])
            depth[place] += ink * (near - depth[place])
        for _ in range(self.strokes):
            ends = rng.integers(0, size, 4)
            cv2.line(color, ends[:2].tolist(), ends[2:].tolist(),
                     rng.uniform(0, 1, 3).tolist())
        color += rng.normal(0, self.noise, color.shape)
        color, depth = ((found.clip(0, 1) * 255).round().astype(np.uint8)
                        for found in (color, depth[..., None]))
        scene = dict(gt_label=int(labels[main]))
        if self.view == 'both':
            return dict(scene, img=color, **{TEACHER: depth})
        return dict(scene, img=color if self.view == 'color' else depth)
