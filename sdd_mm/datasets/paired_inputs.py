# Copyright (c) sdd_mm contributors. All rights reserved.
"""Two views of one scene: an image for the student, one for the teacher."""
import io
import random
from typing import List, Optional, Tuple

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from mmpretrain.datasets import PackInputs
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from ..errors import SDDError

TEACHER = 'teacher_img'
"""The key of the teacher's image in a pipeline, beside ``img``"""
ORIENTATION = 274
"""The EXIF tag that says how to turn an image; 1 is upright"""
TRIES = 20
"""Samples for which ``ApplyToBoth`` tries whether it does the same twice"""


class PairedInputsError(SDDError, ValueError):
    """Two images that are not, or would not stay, views of one scene."""


@TRANSFORMS.register_module()
class LoadTeacherImage(LoadImageFromFile):
    """Load the teacher's image, which lies beside the student's.

    Args:
        replace (tuple[str, str]): What to replace in the path of the
            student's image, and by what: every occurrence.
        **kwargs: The arguments of mmcv's ``LoadImageFromFile``, such as
            ``color_type='grayscale'``.

    Raises:
        PairedInputsError: If the path does not contain what to replace, or
            the image has an EXIF orientation that would be ignored.

    Examples:
        >>> # in a config: photos/train/rgb/7.jpg, photos/train/depth/7.jpg
        >>> pipeline = [
        ...     dict(type='LoadImageFromFile'),
        ...     dict(
        ...         type='LoadTeacherImage',
        ...         replace=('/rgb/', '/depth/'),
        ...         color_type='grayscale'),
        ...     dict(
        ...         type='ApplyToBoth',
        ...         transforms=[
        ...             dict(type='RandomResizedCrop', scale=224),
        ...             dict(type='RandomFlip', prob=0.5)
        ...         ]),
        ...     dict(type='PackPairedInputs')
        ... ]
    """

    def __init__(self, replace: Tuple[str, str], **kwargs) -> None:
        super().__init__(**kwargs)
        self.replace = tuple(replace)

    def path_of(self, path: str) -> str:
        """The path of the teacher's image for that of the student's."""
        old, new = self.replace
        if old not in path:
            raise PairedInputsError(
                f'{path} does not contain {old!r}: correct replace of '
                'LoadTeacherImage in the pipeline')
        return path.replace(old, new)

    def _check_orientation(self, path: str) -> None:
        """OpenCV turns images as their tag says, but not unchanged ones."""
        with Image.open(io.BytesIO(get(path, self.backend_args))) as image:
            if image.getexif().get(ORIENTATION, 1) != 1:
                raise PairedInputsError(
                    f'{path} has an EXIF orientation, which is ignored with '
                    "color_type='unchanged', but not in the student's image: "
                    'save it turned, without the tag')

    def transform(self, results: dict) -> Optional[dict]:
        """Add the teacher's image, (H, W, C) or (H, W)."""
        path = self.path_of(results['img_path'])
        if self.color_type == 'unchanged':
            self._check_orientation(path)
        found = super().transform(dict(img_path=path))
        if found is None:  # ignore_empty
            return None
        return dict(results, **{TEACHER: found['img']})


@TRANSFORMS.register_module()
class ApplyToBoth:
    """Transforms that change both images of a pair alike.

    They run twice, the second time with the random numbers of the first, so
    that crops and flips are the same. That takes two images of one height and
    width. Put transforms of colors before or after it: there they change the
    student's image alone.

    Args:
        transforms (list[dict]): Configs of the transforms.

    Raises:
        PairedInputsError: If the heights or widths of the images differ, or
            the transforms drew other random numbers for the second image.
    """

    def __init__(self, transforms: List[dict]) -> None:
        self.transforms = [TRANSFORMS.build(step) for step in transforms]
        self._tries = TRIES

    def __call__(self, results: dict) -> Optional[dict]:
        """Transform ``img`` and ``teacher_img``."""
        inputs = dict(results)
        other = _take(inputs, 'ApplyToBoth')
        before = _random_state()
        found = self._run(dict(inputs))
        after = _random_state()
        _restore(before)
        other = self._run(dict(inputs, img=other))
        if found is None or other is None:  # a transform gave the image up
            return None
        for image in (found['img'], other['img']):
            if not isinstance(image, np.ndarray):
                raise PairedInputsError(
                    f'ApplyToBoth ends with a {type(image).__name__}: end its '
                    "transforms with dict(type='PILToNumpy')")
        _check_sizes(found['img'], other['img'], 'after ApplyToBoth')
        if not _same(after, _random_state()):
            raise PairedInputsError(
                'the transforms of ApplyToBoth drew other random numbers for '
                "the teacher's image than for the student's: take out of it "
                'those that depend on colors')
        if self._tries:  # the first ones in every process
            self._tries -= 1
            _restore(before)
            again = self._run(dict(inputs))
            if not np.array_equal(again['img'], found['img']):
                raise PairedInputsError(
                    'a transform of ApplyToBoth draws random numbers of its '
                    'own, so that it does not do the same twice: replace it '
                    'by one of MMPretrain')
            _restore(after)
        return dict(found, **{TEACHER: other['img']})

    def _run(self, results: Optional[dict]) -> Optional[dict]:
        for transform in self.transforms:
            if results is not None:
                results = transform(results)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transforms})'


@TRANSFORMS.register_module()
class PackPairedInputs(PackInputs):
    """``PackInputs`` for a pair of images.

    ``inputs`` of the sample is ``dict(student=..., teacher=...)``, two images
    of shape (C, H, W), which may have different numbers of channels and
    sizes. It takes ``PairedDataPreprocessor``.

    Args:
        **kwargs: The arguments of MMPretrain's ``PackInputs``.
    """

    def transform(self, results: dict) -> dict:
        """Pack ``img`` and ``teacher_img``."""
        results = dict(results)
        other = results.pop(TEACHER, None)
        if other is None:
            raise _missing('PackPairedInputs')
        packed = super().transform(results)
        inputs = dict(
            student=packed['inputs'], teacher=self.format_input(other))
        return dict(packed, inputs=inputs)


def _take(results: dict, name: str) -> np.ndarray:
    """The teacher's image, removed from the results."""
    other = results.pop(TEACHER, None)
    if other is None:
        raise _missing(name)
    _check_sizes(results['img'], other, f'before {name}')
    return other


def _missing(name: str) -> PairedInputsError:
    return PairedInputsError(
        f"{name} found no image of the teacher's: add LoadTeacherImage to the "
        f'pipeline before it, or let the data set yield {TEACHER!r}')


def _check_sizes(one: np.ndarray, two: np.ndarray, where: str) -> None:
    if one.shape[:2] != two.shape[:2]:
        raise PairedInputsError(
            f"the student's image of {one.shape[0]} x {one.shape[1]} pixels "
            f"and the teacher's of {two.shape[0]} x {two.shape[1]} are no "
            f'views of one scene {where}: resize the larger one before')


def _random_state() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(state: tuple) -> None:
    own, arrays, tensors = state
    random.setstate(own)
    np.random.set_state(arrays)
    torch.set_rng_state(tensors)


def _same(one: tuple, two: tuple) -> bool:
    return one[0] == two[0] and one[2].equal(two[2]) and all(
        np.array_equal(a, b) for a, b in zip(one[1], two[1]))
