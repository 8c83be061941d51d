# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a data set's own loading steps yield, tried on its first image."""
from typing import NamedTuple, Optional, Tuple

import numpy as np
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS, DefaultScope

from .images import LOADERS, innermost, loads_files, loads_grayscale


class LoadedImage(NamedTuple):
    """An image before the steps that change images.

    Args:
        size (tuple[int, int]): Height and width.
        channels (int): Number of channels; 0: there is no such dimension.
        dtype (np.dtype): Type of the values.
        rest (list[dict]): The steps of the pipeline that follow.
    """
    size: Tuple[int, int]
    channels: int
    dtype: np.dtype
    rest: list

    def black(self, size: Tuple[int, int]) -> np.ndarray:
        """A black image of this kind."""
        shape = (*size, self.channels) if self.channels else size
        return np.zeros(shape, self.dtype)


def loaded_image(cfg: dict, loader: dict, size: Tuple[int,
                                                      int]) -> LoadedImage:
    """The kind of image that a dataloader's pipeline gets.

    The first image of the data set says it. Where the data are absent, or
    files are loaded in color or as grayscale, it follows from the config.

    Args:
        cfg (dict): The config of a run.
        loader (dict): Config of one of its dataloaders.
        size (tuple[int, int]): Height and width if no image is looked at.
    """
    pipeline = innermost(loader['dataset']).get('pipeline') or []
    colors = [
        step.get('color_type', 'color') for step in pipeline
        if step['type'] in LOADERS
    ]
    if not colors or colors[0] not in ('color', 'grayscale'):
        found = _first_image(cfg, loader, pipeline)
        if found is not None:
            return found
    channels = 3
    if loads_grayscale(loader):
        channels = 0
    elif not loads_files(loader):
        model = cfg.get('model') or {}
        model = model.get('architecture', model)
        channels = (model.get('backbone') or {}).get('in_channels', 3)
    rest = [step for step in pipeline if step['type'] not in LOADERS]
    return LoadedImage(size, channels, np.dtype('uint8'), rest)


def _first_image(cfg: dict, loader: dict,
                 pipeline: list) -> Optional[LoadedImage]:
    config = dict(innermost(loader['dataset']), pipeline=[])
    try:
        with DefaultScope.overwrite_default_scope(
                cfg.get('default_scope', 'mmpretrain')):
            results = without_download(config).get_data_info(0)
            for number, step in enumerate([None, *pipeline]):
                if step is not None:
                    results = Compose([step])(results)
                image = results.get('img')
                if isinstance(image, np.ndarray):
                    channels = image.shape[2] if image.ndim == 3 else 0
                    return LoadedImage(image.shape[:2], channels, image.dtype,
                                       pipeline[number:])
    except Exception:  # the data may be absent, or be of any kind
        pass
    return None


def without_download(config: dict) -> BaseDataset:
    """A data set that is there: MMPretrain's CIFAR-10 downloads itself.

    Args:
        config (dict): Config of a data set.
    """
    dataset = DATASETS.build(dict(config, lazy_init=True))
    dataset.download = False
    dataset.full_init()
    return dataset
