# Copyright (c) sdd_mm contributors. All rights reserved.
"""The samples of a dataloader: loaded, labeled and collated."""
import copy
import os
import os.path as osp
from typing import Any, Iterator, Optional, Tuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from torch import Tensor
from torch.utils.data import DataLoader

from ..images import datasets_of
from .building import building, parameters, says
from .errors import PreflightError

MOST = 32  # samples that are collated


def build_loader(field: str, loader: dict,
                 downloads: bool) -> Optional[DataLoader]:
    """Build a dataloader as the runner does. It starts no workers.

    Args:
        field (str): Its config key.
        loader (dict): Its config. The data set of an ``InMemoryDataset`` is
            loaded without it.
        downloads (bool): Whether absent data will be downloaded by the run.

    Returns:
        DataLoader | None: None if the data are absent and will be downloaded.

    Raises:
        PreflightError: If it cannot be built or its data cannot be loaded.
    """
    loader = copy.deepcopy(dict(loader))
    loader.setdefault('collate_fn', dict(type='default_collate'))
    dataset, key = loader['dataset'], f'{field}.dataset'
    if dataset['type'].split('.')[-1] == 'InMemoryDataset':
        dataset, key = dataset['dataset'], f'{key}.dataset'
        loader['dataset'] = dataset
    key, first = next(datasets_of(key, dataset))
    for _, config in datasets_of(key, dataset):
        if downloads:
            config['download'] = False
        if 'serialize_data' in parameters(config['type']):
            config['serialize_data'] = False  # it is for workers
    with building(field, copy.deepcopy(loader), DataLoader):
        try:
            return Runner.build_dataloader(loader, seed=0)
        except (OSError, RuntimeError) as error:
            if downloads:
                return None
            text = f'{key} ({first["type"]}) cannot be loaded: {says(error)}'
            if 'dataloader.dataset.' not in text:
                text += (
                    f'. Set {key}.data_root (and that of the other '
                    'dataloaders) to where the data are, for instance by '
                    f'--cfg-options {key}.data_root=PATH')
            if not osp.isabs(first.get('data_root') or os.sep):
                text += f'; relative paths start at {os.getcwd()}'
            raise PreflightError(text) from error


def by_folders(dataset: BaseDataset) -> bool:
    """Whether the folders of a data set number its classes."""
    return (isinstance(dataset, CustomDataset) and dataset.with_label
            and not dataset.ann_file and osp.isdir(dataset.img_prefix))


def check_labels(field: str, dataset: Any, classes: Optional[int]) -> None:
    """Refuse the first label that is no class.

    Args:
        field (str): Config key of the dataloader.
        dataset (Dataset): Its data set, loaded.
        classes (int, optional): Number of classes of the head. None: no
            label is refused.

    Raises:
        PreflightError: With the sample and its label.
    """
    for sample, label in _labels(dataset) if classes else ():
        values = np.ravel(label)
        if values.dtype.kind in 'iu' and not all(0 <= value < classes
                                                 for value in values):
            raise PreflightError(
                f'{field}.dataset: {sample}: label {label} is not one of the '
                f'{classes} classes of the student: correct the annotations, '
                'or set head.num_classes of student and teacher')


def _labels(dataset: Any) -> Iterator[Tuple[Any, Any]]:
    """Names and labels of all samples whose annotations tell both."""
    if not isinstance(dataset, BaseDataset):
        inner = getattr(dataset, 'dataset', None)
        parts = getattr(dataset, 'datasets', [inner])
        for part in parts:
            if part is not None:
                yield from _labels(part)
    elif not by_folders(dataset):  # whose labels are numbers of folders
        for index in range(len(dataset)):
            # without the images that a data set may add
            info = BaseDataset.get_data_info(dataset, index)
            if info.get('gt_label') is not None:
                yield info.get('img_path') or f'image {index}', info['gt_label']


def check_batch(field: str, config: dict, loader: DataLoader) -> None:
    """Collate one batch, as a worker would.

    Args:
        field (str): Config key of the dataloader.
        config (dict): Its config.
        loader (DataLoader): The dataloader.

    Raises:
        PreflightError: If there is no batch, a sample cannot be made, or the
            samples cannot be collated.
    """
    dataset, batches = loader.dataset, loader.batch_sampler
    if batches is None:
        raise PreflightError(f'{field}.batch_size must be a positive integer, '
                             f'got {config.get("batch_size")!r}')
    if not len(loader):
        raise PreflightError(
            f'{field} has no batch: its data set has {len(dataset)} samples. '
            f'Set {field}.batch_size to no more than that (it is '
            f'{loader.batch_size}), or {field}.drop_last to False')
    count = min(getattr(batches, 'batch_size', 1), MOST, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).astype(int).tolist()
    with building(f'{field}.dataset', config['dataset']):
        samples = [dataset[index] for index in indices]
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
    """The transform that a pipeline lacks."""
    if one[0] != two[0]:
        return ("set color_type='color' of LoadImageFromFile in "
                f'{field}.dataset.pipeline')
    pipeline = next(datasets_of('', config['dataset']))[1].get('pipeline', [])
    kept = [
        step['type'] for step in pipeline
        if step['type'].split('.')[-1] == 'ResizeEdge' or step.get('keep_ratio')
    ]
    if kept:
        return (f'{kept[-1]} keeps the aspect ratio, so add a CenterCrop or a '
                f'RandomCrop after it in {field}.dataset.pipeline')
    return (f'add a Resize(scale=(width, height)), a RandomResizedCrop, or a '
            f'ResizeEdge and a CenterCrop to {field}.dataset.pipeline')


def some(names: list) -> str:
    """Up to five names."""
    return ', '.join(names[:5]) + ', ...' * (len(names) > 5)
