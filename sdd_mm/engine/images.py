# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a config says of the images that its data set loads."""
from typing import Optional

LOADERS = ('LoadImageFromFile', 'mmpretrain.LoadImageFromFile',
           'mmcv.LoadImageFromFile')
# data sets of arrays that are RGB
RGB_ARRAYS = ('CIFAR10', 'CIFAR100', 'VerifiedCIFAR100')


def innermost(dataset: dict) -> dict:
    """The data set inside wrappers, the first of several."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    return dataset


def loads_files(loader: dict) -> bool:
    """Whether a dataloader's images come from files, not from arrays."""
    return any(step['type'] in LOADERS
               for step in innermost(loader['dataset'])['pipeline'])


def channel_order(loader: dict) -> Optional[str]:
    """The channel order of a dataloader's images.

    Args:
        loader (dict): Config of a dataloader.

    Returns:
        str | None: 'RGB', 'BGR', or None where the config does not tell.
    """
    dataset = innermost(loader['dataset'])
    if dataset['type'].split('.')[-1] in RGB_ARRAYS:
        return 'RGB'
    loads = [
        step for step in dataset.get('pipeline', ()) if step['type'] in LOADERS
    ]
    if loads and loads[0].get('color_type', 'color') == 'color':
        return 'BGR'
    return None
