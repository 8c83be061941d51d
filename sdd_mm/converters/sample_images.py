# Copyright (c) sdd_mm contributors. All rights reserved.
"""Images as a config's test pipeline gives them."""
import copy
from typing import Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from torch import Tensor

from ..images import (LOADERS, RGB_ARRAYS, channel_order, innermost,
                      student_pipeline)
from ..loaded_image import loaded_image
from .checkpoint import ConversionError

# two sizes before the pipeline: one that resizes gives the same size for both
CIFAR_SIZE, RAW_SIZES = (32, 32), ((256, 320), (224, 200))
ADVICE = 'set the size of the images with --image-size HEIGHT WIDTH'


def sample_images(cfg: Config,
                  size: Optional[Tuple[int, int]] = None,
                  count: int = 2) -> Tensor:
    """Noise in the shape of a network's test images.

    Args:
        cfg (Config): A config with a ``test_dataloader``.
        size (tuple[int, int], optional): Height and width in pixels. Defaults
            to None: the size that the test pipeline gives all images or, if it
            keeps their sizes, that of the first image.
        count (int): Number of images. Defaults to 2.

    Returns:
        Tensor: Shape (count, C, H, W), from 0 to 255.

    Raises:
        ConversionError: If neither the config nor its data have a size.
    """
    if size is not None and min(size) < 1:
        raise ConversionError('--image-size must be positive, got '
                              f'{size[0]} x {size[1]} pixels')
    loader = _test_loader(cfg)
    image = _run_pipeline(cfg, loader) if loader else None
    channels = 3 if image is None else image.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        256, (count, channels, *(size or _image_size(cfg, loader))),
        generator=generator).float()


def describe_images(cfg: Config) -> str:
    """The range, channel order and transforms of a config's test images."""
    loader = _test_loader(cfg)
    if not loader:
        return ' from 0 to 255'
    names = [(step['type'], step['type'].split('.')[-1])
             for step in innermost(loader['dataset']).get('pipeline', ())]
    steps = [
        name for kind, name in names
        if kind not in LOADERS and not name.startswith('Pack')
    ]
    image, order = _run_pipeline(cfg, loader), channel_order(loader)
    floats = image is not None and image.is_floating_point()
    return (('' if floats else ' from 0 to 255') +
            (f', {order}' if order and not floats else ', as its pipeline '
             'gives them') + (f', after {", ".join(steps)}' if steps else ''))


def _test_loader(cfg: Config) -> Optional[dict]:
    """The dataloader of the student's test images."""
    loader = copy.deepcopy(
        cfg.get('test_dataloader') or cfg.get('val_dataloader'))
    if loader:
        dataset = innermost(loader['dataset'])
        dataset['pipeline'] = student_pipeline(dataset.get('pipeline'))
    return loader


def _run_pipeline(cfg: Config,
                  loader: dict,
                  size: Tuple[int, int] = RAW_SIZES[0]) -> Optional[Tensor]:
    """A black image behind the pipeline, if that needs nothing but images."""
    kind = loaded_image(cfg, loader, size)
    image = kind.black(size)
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return Compose(kind.rest)(dict(
                img=image, img_shape=size, ori_shape=size,
                gt_label=0))['inputs']
    except Exception:  # a pipeline may need anything
        return None


def _image_size(cfg: Config, loader: Optional[dict]) -> Tuple[int, int]:
    if not loader or not innermost(loader['dataset']).get('pipeline'):
        raise ConversionError('the config has no test_dataloader with a '
                              f'pipeline: {ADVICE}')
    dataset = innermost(loader['dataset'])
    is_cifar = dataset['type'].split('.')[-1] in RGB_ARRAYS
    images = [
        _run_pipeline(cfg, loader, size)
        for size in ((CIFAR_SIZE, ) if is_cifar else RAW_SIZES)
    ]
    sizes = {
        None if image is None else tuple(image.shape[-2:])
        for image in images
    }
    if len(sizes) == 1 and None not in sizes:
        return sizes.pop()
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return tuple(DATASETS.build(dataset)[0]['inputs'].shape[-2:])
    except Exception as error:  # the data may be gone
        raise ConversionError(
            'the test pipeline does not give all images one size, and its '
            f'data set has no first image ({type(error).__name__}: {error}): '
            f'{ADVICE}') from error
