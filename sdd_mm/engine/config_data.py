# Copyright (c) sdd_mm contributors. All rights reserved.
"""The data of a config: files, classes, labels, and one batch."""
import os
import os.path as osp
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch import nn
from torch.utils.data import DataLoader

from ..datasets import InMemoryDataset, batch_or_collate
from ..images import datasets_of
from .building import building
from .config_batch import (build_loader, by_folders, check_batch,
                           check_labels, some)
from .errors import PreflightError
from ..runtime.utils import num_classes

FIELDS = ('train_dataloader', 'val_dataloader')


def check_data(cfg: Config, model: nn.Module,
               fields: tuple = FIELDS) -> Dict[str, Optional[DataLoader]]:
    """Load the data sets and collate one batch of each.

    Args:
        cfg (Config): The config of a run.
        model (nn.Module): Its model.
        fields (tuple[str]): The config keys of the dataloaders.

    Returns:
        dict[str, DataLoader | None]: The dataloaders that the config has,
        None for data that the run will download.

    Raises:
        PreflightError: If data are absent or unreadable, do not fit the
            model, or cannot be collated.
    """
    seen, datasets, downloads = {}, {}, set()
    fields = [field for field in fields if cfg.get(field) is not None]
    for field in fields:
        dataset = cfg[field].dataset
        for key, config in datasets_of(f'{field}.dataset', dataset):
            kind = _kind(config)
            if isinstance(kind, type) and not issubclass(kind, BaseDataset):
                continue  # what it takes is its own affair
            with building(key, config):
                datasets[key] = DATASETS.build(dict(config, lazy_init=True))
            _check_dataset(key, datasets[key], model)
            if getattr(datasets[key], 'download', False):
                downloads.add(field)
        if _kind(cfg[field].dataset) is InMemoryDataset:
            _check_in_memory(field, cfg[field], model)
    loaders = {
        field: build_loader(field, cfg[field], field in downloads)
        for field in fields
    }
    for key, dataset in datasets.items():
        _check_content(key, dataset, model)
    for key, dataset in (*datasets.items(), *_test_datasets(cfg)):
        _check_same_classes(key, dataset, seen)
    for field, loader in loaders.items():
        if loader is not None:
            check_labels(field, loader.dataset, num_classes(model))
            check_batch(field, cfg[field], loader)
    return loaders


def _kind(config: dict) -> Any:
    """The class that a config names, None if there is none."""
    kind = config.get('type')
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(None) as registry:
        return registry.get(kind)


def _test_datasets(cfg: Config) -> Iterator[Tuple[str, BaseDataset]]:
    """Data sets of a test, which need not be there."""
    loader = cfg.get('test_dataloader') or {}
    if 'dataset' not in loader:
        return
    for key, config in datasets_of('test_dataloader.dataset',
                                   loader['dataset']):
        with suppress(Exception):
            dataset = DATASETS.build(dict(config, lazy_init=True))
            _class_names(dataset)
            yield key, dataset


def _check_dataset(key: str, dataset: BaseDataset, model: nn.Module) -> None:
    if osp.splitext(dataset.ann_file)[1] in ('.pkl', '.pickle'):
        raise PreflightError(
            f'{key}.ann_file {dataset.ann_file} is a pickle, which may '
            'run code when it is read. If it is your own, make a JSON of '
            'it: mmengine.dump(mmengine.load(OLD), NEW)')
    if not by_folders(dataset):
        return
    root, found = dataset.img_prefix.rstrip('/'), _folders(dataset)
    outputs = num_classes(model)
    empty = [
        name for name in found
        if next(os.scandir(osp.join(root, name)), None) is None
    ]
    if empty:
        raise PreflightError(
            f'{key}: {len(empty)} class folders in {root} are empty: '
            f'{some(empty)}. Each is a class of its own: fill them or remove '
            f'them, or set {key}.data_root to the whole data')
    if outputs is not None and len(found) != outputs:
        raise PreflightError(
            f'{key}: {root} has {len(found)} class folders ({some(found)}), '
            f'the head of {_student(model)} has {outputs} classes: set '
            'head.num_classes of the model, and of model.teacher, to '
            f'{len(found)}, or {key}.data_root to the data of all classes')


def _student(model: nn.Module) -> str:
    return type(getattr(model, 'architecture', model)).__name__


def _check_content(key: str, dataset: BaseDataset, model: nn.Module) -> None:
    classes, outputs = dataset.metainfo.get('classes'), num_classes(model)
    if classes is not None and outputs is not None and len(classes) > outputs:
        raise PreflightError(
            f'{key} ({type(dataset).__name__}) has {len(classes)} classes, '
            f'the head of {_student(model)} {outputs}: set `num_classes` of '
            'the heads and of data_preprocessor')
    if not dataset.pipeline.transforms:
        raise PreflightError(f'{key}.pipeline is empty: it must end with '
                             "dict(type='PackInputs')")


def _folders(dataset: BaseDataset) -> List[str]:
    """Its class folders, in the order that numbers them."""
    return sorted(
        folder.name for folder in os.scandir(dataset.img_prefix)
        if folder.is_dir() and not folder.name.startswith('.'))


def _class_names(dataset: BaseDataset) -> Optional[list]:
    names = (
        _folders(dataset)
        if by_folders(dataset) else dataset.metainfo.get('classes'))
    return None if names is None else list(names)


def _check_same_classes(key: str, dataset: BaseDataset, seen: dict) -> None:
    """Class names, and with them labels, are the same for all data sets."""
    numbered, names = by_folders(dataset), _class_names(dataset)
    first, known = seen.setdefault(numbered, (key, names))
    if names is None or known is None or known == names:
        return
    absent, more = (
        some(sorted(map(str,
                         set(a) - set(b)))) or 'none'
        for a, b in ((known, names), (names, known)))
    what = 'class folders' if numbered else 'classes'
    raise PreflightError(
        f'{key} has {len(names)} {what}, {first} has {len(known)}, and their '
        f'order numbers the classes. Absent from {key}: {absent}; absent from '
        f'{first}: {more}. Set data_root to data of the same classes')


def _check_in_memory(field: str, loader: dict, model: nn.Module) -> None:
    """The pipeline, and what a loader of finished batches needs."""
    with building(f'{field}.dataset', loader['dataset']):
        dataset = DATASETS.build(dict(loader['dataset'], lazy_init=True))
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
