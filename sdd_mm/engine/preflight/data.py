# Copyright (c) sdd_mm contributors. All rights reserved.
"""The data of a config: loaded, compared with the model, and labeled."""
import copy
import os
import os.path as osp
import warnings
from contextlib import suppress
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ...datasets import InMemoryDataset, batch_or_collate
from ...images import datasets_of
from ...runtime.utils import num_classes
from ..errors import PreflightError
from .batch import check_batch
from .building import building, look_up, parameters, says
from .classes import (by_folders, check_classes, check_folders,
                      check_same_classes)


def check_data(cfg: Config, model: nn.Module,
               fields: tuple) -> Dict[str, Optional[DataLoader]]:
    """Load data sets, look at their labels, and collate a batch of each.

    Returns:
        dict[str, DataLoader | None]: The dataloaders that the config has, by
        their keys; None where the run will download the data.
    """
    datasets: Dict[str, BaseDataset] = {}
    loaders: Dict[str, Optional[DataLoader]] = {}
    for field in fields:
        if cfg.get(field) is None:
            continue
        downloads = False
        for key, config in datasets_of(f'{field}.dataset', cfg[field].dataset):
            if issubclass(_kind(key, config), BaseDataset):
                dataset = _build_lazily(key, config)
                check_folders(key, dataset, model)
                datasets[key] = dataset
                downloads |= getattr(dataset, 'download', False)
        if _kind(f'{field}.dataset', cfg[field].dataset) is InMemoryDataset:
            _check_in_memory(field, cfg[field], model)
        loaders[field] = _load(field, cfg[field], downloads)
    seen: dict = {}
    for key, dataset in datasets.items():
        check_classes(key, dataset, model)
    for key, dataset in (*datasets.items(), *_test_datasets(cfg)):
        check_same_classes(key, dataset, seen)
    for field, loader in loaders.items():
        if loader is not None:
            _check_labels(field, loader.dataset, num_classes(model))
            check_batch(field, cfg[field], loader)
    return loaders


def _kind(key: str, config: dict) -> type:
    """The class of a data set; of other callables what they may build."""
    with building(key, config):
        kind = look_up(DATASETS, config.get('type'))
    return kind if isinstance(kind, type) else object


def _build_lazily(key: str, config: dict) -> Any:
    """A data set that has not been loaded."""
    with building(key, config):
        dataset = DATASETS.build(dict(config, lazy_init=True))
    ann_file = getattr(dataset, 'ann_file', '')
    if osp.splitext(ann_file)[1] in ('.pkl', '.pickle'):
        raise PreflightError(
            f'{key}.ann_file {ann_file} is a pickle, which may run code when '
            'it is read. If it is your own, make a JSON of it: '
            'mmengine.dump(mmengine.load(OLD), NEW)')
    return dataset


def _test_datasets(cfg: Config) -> Iterator[Tuple[str, BaseDataset]]:
    """Data sets of a later test, which need not be there yet."""
    loader = cfg.get('test_dataloader') or {}
    for key, config in datasets_of(
            'test_dataloader.dataset',
            loader['dataset']) if 'dataset' in loader else ():
        with suppress(Exception):
            dataset = DATASETS.build(dict(config, lazy_init=True))
            check_same_classes(key, dataset, {})
            yield key, dataset


def _check_in_memory(field: str, loader: dict, model: nn.Module) -> None:
    """What a loader of finished batches needs."""
    dataset = _build_lazily(f'{field}.dataset', loader['dataset'])
    title = f'{field} has an InMemoryDataset'
    collate = (loader.get('collate_fn') or {}).get('type')
    if collate not in ('batch_or_collate', batch_or_collate):
        raise PreflightError(f'{title}, which yields finished batches: set '
                             f"{field}.collate_fn.type='batch_or_collate'")
    for key in ('num_workers', 'pin_memory'):
        if dataset.device == 'cuda' and loader.get(key):
            raise PreflightError(f'{title} on the GPU: set {field}.{key}='
                                 f'{type(loader[key])(0)}, or '
                                 f"{field}.dataset.device='cpu'")
    if field != 'train_dataloader':
        if not dataset.test_mode:
            raise PreflightError(f'{title}: to be evaluated, it needs '
                                 f'{field}.dataset.dataset.test_mode=True')
    elif not dataset.test_mode and getattr(model.data_preprocessor,
                                           'to_onehot', False):
        raise PreflightError(
            f'{title}, whose labels are classes: it cannot be used with '
            'data_preprocessor.to_onehot or the batch augmentations (Mixup, '
            "CutMix) of the student's train_cfg.augments")


def _load(field: str, loader: dict, downloads: bool) -> Optional[DataLoader]:
    """Build a dataloader as the runner does. It starts no workers.

    The data set of an ``InMemoryDataset`` is loaded without it.
    """
    loader = copy.deepcopy(dict(loader))
    loader.setdefault('collate_fn', dict(type='default_collate'))
    key, dataset = f'{field}.dataset', loader['dataset']
    if _kind(key, dataset) is InMemoryDataset:
        key, dataset = f'{key}.dataset', dataset['dataset']
        loader['dataset'] = dataset
    for inner, config in datasets_of(key, dataset):
        if downloads:
            config['download'] = False
        if 'serialize_data' in parameters(_kind(inner, config)):
            config['serialize_data'] = False  # that is for workers
    with building(field, copy.deepcopy(loader), DataLoader):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # the run gives them, too
                return Runner.build_dataloader(loader, seed=0)
        except (OSError, RuntimeError) as error:
            if downloads:
                return None
            key, config = next(datasets_of(key, dataset))
            text = f'{key} ({config["type"]}) cannot be loaded: {says(error)}'
            if 'dataloader.dataset.' not in text[len(key):]:
                text += (f'. Set {key}.data_root (and that of the other '
                         'dataloaders) to where the data are, for instance by '
                         f'--cfg-options {key}.data_root=PATH')
            if not osp.isabs(config.get('data_root') or os.sep):
                text += f'; relative paths start at {os.getcwd()}'
            raise PreflightError(text) from error


def _check_labels(field: str, dataset: Any, classes: Optional[int]) -> None:
    """Refuse the first label in the annotations that is no class."""
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
        for part in getattr(dataset, 'datasets',
                            [getattr(dataset, 'dataset', None)]):
            if part is not None:
                yield from _labels(part)
    elif not by_folders(dataset):  # whose labels are numbers of folders
        for index in range(len(dataset)):
            # without the images that a data set may add
            info = BaseDataset.get_data_info(dataset, index)
            if info.get('gt_label') is not None:
                yield info.get('img_path', f'image {index}'), info['gt_label']
