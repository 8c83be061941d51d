# Copyright (c) sdd_mm contributors. All rights reserved.
"""A data set reads the images that its config says."""
from mmpretrain.datasets import CIFAR10, CUB, MNIST, VOC

from ..errors import PreflightError


def check_split(key: str, config: dict, kind: type) -> None:
    """``split`` and ``test_mode`` mean the same images.

    MMPretrain's MNIST reads ``test_mode`` alone; CIFAR, CUB and VOC read
    ``split`` alone, whose default is training images. Its other data sets
    derive the one from the other.

    Args:
        key (str): The dotted key of a data set.
        config (dict): Its config.
        kind (type): Its class.

    Raises:
        PreflightError: If other images would be read than the config says.
    """
    tests, split = bool(config.get('test_mode')), config.get('split')
    if issubclass(kind, MNIST):
        if split is not None and tests != (split == 'test'):
            raise PreflightError(
                f'{key}: split={split!r}, but {kind.__name__} reads test_mode '
                f'alone, and that is {tests}: set {key}.test_mode='
                f'{not tests}, or split to what test_mode says')
        return
    if (tests and split is None and issubclass(kind, (CIFAR10, CUB, VOC))
            and 'image_set_path' not in config):
        raise PreflightError(
            f'{key}: test_mode=True, but {kind.__name__} reads split alone, '
            'and that is the training images by default: set '
            f"{key}.split='test', or to what it should read")
