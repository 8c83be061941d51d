# Copyright (c) sdd_mm contributors. All rights reserved.
"""One batch of a dataloader, collated as a worker would."""
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from ...images import innermost
from ..errors import PreflightError
from .building import building, says

MOST = 32  # samples


def check_batch(field: str, config: dict, loader: DataLoader) -> None:
    """Collate up to 32 samples from all over the data set.

    Args:
        field (str): Config key of the dataloader.
        config (dict): Its config.
        loader (DataLoader): The dataloader.

    Raises:
        PreflightError: If there is no batch, a sample cannot be loaded or
            was not packed, or the samples cannot be collated, such as images
            of unequal shapes.
    """
    dataset = loader.dataset
    if not len(loader):
        raise PreflightError(
            f'{field} has no batch: its data set has {len(dataset)} samples. '
            f'Set {field}.batch_size to no more than that (it is '
            f'{loader.batch_size}), or {field}.drop_last to False')
    size = getattr(loader.batch_sampler, 'batch_size', None) or 1
    indices = np.linspace(0, len(dataset) - 1, min(size, MOST, len(dataset)))
    with building(f'{field}.dataset', config['dataset']):
        samples = [dataset[int(index)] for index in indices]
    for sample in samples:
        if not isinstance(sample, dict) or 'inputs' not in sample:
            found = sorted(sample) if isinstance(
                sample, dict) else type(sample).__name__
            raise PreflightError(
                f"{field}.dataset yields {found} instead of 'inputs' and "
                "'data_samples': its pipeline must end with "
                "dict(type='PackInputs'), in place of ImageToTensor, ToTensor "
                'and Collect; mean and std belong to data_preprocessor')
    try:
        loader.collate_fn(samples)
    except Exception as error:  # a collate function may raise anything
        shapes = {
            tuple(sample['inputs'].shape): sample
            for sample in samples if isinstance(sample, dict)
            and isinstance(sample.get('inputs'), Tensor)
        }
        if len(shapes) < 2:
            raise PreflightError(f'{field}: its samples cannot be collated: '
                                 f'{says(error)}') from error
        (one, first), (two, second) = list(shapes.items())[:2]
        raise PreflightError(
            f'{field}: images of unequal shapes cannot be collated, such as '
            f'{one}{_path(first)} and {two}{_path(second)}: '
            f'{_missing(field, one, two, config)}') from error


def _path(sample: dict) -> str:
    path = sample['data_samples'].get('img_path')
    return f' of {path}' if path else ''


def _missing(field: str, one: tuple, two: tuple, config: dict) -> str:
    """What a pipeline lacks to yield images of one shape."""
    pipeline = f'{field}.dataset.pipeline'
    if one[0] != two[0]:
        return f"set color_type='color' of LoadImageFromFile in {pipeline}"
    for step in reversed(innermost(config['dataset']).get('pipeline', ())):
        if 'ResizeEdge' in step['type'] or step.get('keep_ratio'):
            return (f'{step["type"]} keeps the aspect ratio, so add a '
                    f'CenterCrop or a RandomCrop after it in {pipeline}')
    return ('add a Resize(scale=(width, height)), a RandomResizedCrop, or a '
            f'ResizeEdge and a CenterCrop to {pipeline}')
