# Copyright (c) sdd_mm contributors. All rights reserved.
"""The validation images of a run."""
from typing import Optional

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ..engine.errors import PreflightError
from ..images import without_workers


def validation_of(cfg: Config) -> dict:
    """The config of a run's validation dataloader, or of its test dataloader.

    Raises:
        PreflightError: If the run has neither.
    """
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise PreflightError('the config of the run has no images to analyze: '
                             'set val_dataloader or test_dataloader')
    return loader


def validation_loader(cfg: Config, count: Optional[int] = None) -> DataLoader:
    """A dataloader of a run's validation images, without workers.

    Args:
        cfg (Config): The config of the run.
        count (int, optional): Number of images, evenly spaced because a data
            set may be ordered by class. Defaults to None: all, in order.

    Returns:
        DataLoader: The images with their labels.

    Raises:
        PreflightError: If there are no images, or they cannot be loaded.
    """
    loader = without_workers(validation_of(cfg))
    loader['sampler'] = dict(type='DefaultSampler', shuffle=False)
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            built = Runner.build_dataloader(loader)
    except Exception as error:  # data sets may raise anything
        raise PreflightError(
            'the validation images cannot be loaded: '
            f'{type(error).__name__}: {error}. If they were moved, pass their '
            'folder with --cfg-options val_dataloader.dataset.data_root=PATH'
        ) from error
    return built if count is None else evenly_spaced(built, count)


def evenly_spaced(loader: DataLoader, count: int) -> DataLoader:
    """``count`` evenly spaced images of a dataloader's data set."""
    size = len(loader.dataset)
    chosen = torch.linspace(0, size - 1, min(size, count)).round().long()
    return DataLoader(
        Subset(loader.dataset,
               chosen.unique().tolist()),
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn)


def labels_of(samples: list) -> Tensor:
    """The classes of data samples, (n,); of scores, the argmax.

    Raises:
        PreflightError: If a sample has neither a label nor scores.
    """
    found = []
    for sample in samples:
        if 'gt_label' in sample:
            found.append(sample.gt_label.flatten()[:1])
        elif 'gt_score' in sample:
            found.append(sample.gt_score.argmax().view(1))
        else:
            raise PreflightError(
                'a validation sample has neither gt_label nor gt_score: set '
                'val_dataloader.dataset to a data set with labels')
    return torch.cat(found)
