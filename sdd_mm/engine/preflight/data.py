# Copyright (c) sdd_mm contributors. All rights reserved.
"""The data of a config: loaded, compared with the model, and labeled."""
import copy
import os
import os.path as osp
import warnings
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ...datasets import InMemoryDataset, batch_or_collate
from ...images import datasets_of
from ...runtime.utils import num_classes
from ..config_keys import as_list
from ..errors import PreflightError
from .batch import check_batch
from .building import building, look_up, parameters, says
from .classes import Classes, samples
from .files import check_apart, check_folders, check_images, check_list
from .methods import check_channels, check_normalized_once
from .paired import check_pairs
from .same_classes import (check_checkpoint, check_classes, check_presence,
                           check_range)
from .splits import check_split
from .values import items


def check_data(cfg: Config,
               model: nn.Module,
               fields: tuple,
               tested: Optional[Classes] = None) -> Tuple[dict, List[Classes]]:
    """Load data sets, look at their labels, and collate a batch of each.

    The data of a later test need not be there yet: only what numbers their
    classes is looked at.

    Args:
        cfg (Config): The config.
        model (nn.Module): Its model.
        fields (tuple[str]): Keys of the dataloaders that are used.
        tested (Classes, optional): Those of the checkpoint that is tested.
            Defaults to None.

    Returns:
        tuple: The dataloaders that the config has, by their keys, None where
        the run will download the data; and the classes of each data set.

    Raises:
        PreflightError: If something is absent, unreadable, or does not fit.
    """
    datasets: Dict[str, BaseDataset] = {}
    loaders: Dict[str, Optional[DataLoader]] = {}
    for field in fields:
        if cfg.get(field) is None:
            continue
        parts = _parts(field, cfg[field])
        if _kind(f'{field}.dataset', cfg[field].dataset) is InMemoryDataset:
            _check_in_memory(field, cfg[field], model)
        loaders[field] = _load(field, cfg[field], parts)
        datasets.update(parts)
    datasets.update(_later_test(cfg, fields))
    for key, dataset in datasets.items():
        if not dataset.pipeline.transforms:
            raise PreflightError(f'{key}.pipeline is empty: it must end with '
                                 "dict(type='PackInputs')")
    found = [Classes.of_dataset(*item) for item in datasets.items()]
    if tested is not None:
        check_checkpoint(
            tested, found, 'Test it on data whose classes have the numbers of '
            'its training')
    check_classes(found, model)
    for one, dataset in zip(found, datasets.values()):
        check_range(one, dataset, num_classes(model))
    folds, remedy = _folds(cfg)
    check_apart(datasets, folds)
    check_presence(found, num_classes(model), remedy)
    for field, loader in loaders.items():
        for key, dataset in datasets.items():
            if key.startswith(field):
                check_images(key, dataset)
            if key.startswith('val_dataloader') and _compares(cfg):
                _check_labeled(key, dataset)
        if loader is not None:
            check_batch(field, cfg[field], loader)
            check_pairs(model, field, loader)
            check_channels(field, loader, model)
            check_normalized_once(field, cfg[field].dataset, model)
    return loaders, found


def _compares(cfg: Config) -> bool:
    """Whether validation does more than to write the outputs."""
    return any(
        str(one.get('type')).split('.')[-1] != 'DumpResults'
        for one in as_list(cfg.get('val_evaluator') or []))


def _check_labeled(key: str, dataset: BaseDataset) -> None:
    """Validation compares with labels, after an epoch."""
    for index, info in enumerate(samples(dataset)):
        if 'gt_label' not in info:  # the pipeline may add it
            sample = dataset[index].get('data_samples', ('gt_label', ))
            if 'gt_label' in sample or 'gt_score' in sample:
                return
            raise PreflightError(
                f'{key}: {info.get("img_path", f"image {index}")} has no '
                'label, and validation compares with labels: give '
                'val_dataloader labeled images, or set val_dataloader, '
                'val_cfg and val_evaluator to None')


def _parts(field: str, loader: dict) -> Dict[str, BaseDataset]:
    """The data sets inside wrappers, with files that can be read."""
    parts = {}
    configs = list(datasets_of(f'{field}.dataset', loader['dataset']))
    for key, config in configs:
        if issubclass(_kind(key, config), BaseDataset):
            check_split(key, config, _kind(key, config))
            parts[key] = _build_lazily(key, config)
            # others may have the images of an empty folder
            trains = field == 'train_dataloader' and len(configs) == 1
            check_folders(key, parts[key], trains)
            check_list(key, parts[key])
    return parts


def _leaves(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers, in the order of the config."""
    inner = getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)])
    if isinstance(dataset, BaseDataset) or inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from _leaves(part)


def _later_test(cfg: Config, fields: tuple) -> Dict[str, BaseDataset]:
    """The data sets of a later test, if they are others and are there."""
    field, loader = 'test_dataloader', cfg.get('test_dataloader') or {}
    used = [cfg[one].dataset for one in fields if cfg.get(one)]
    if field in fields or 'dataset' not in loader or loader['dataset'] in used:
        return {}
    try:
        parts = _parts(field, loader)
        _load(field, loader, parts)
    except PreflightError as error:
        if error.__cause__ is None:  # it is one of ours
            raise
        return {}
    return parts


def _folds(cfg: Config) -> Tuple[Optional[str], Optional[str]]:
    """The key of a KFoldDataset, and what to do if its folds are sorted."""
    field = 'train_dataloader'
    entries = dict(items(cfg.get(field) or {}, f'{field}.'))
    for key, value in entries.items():
        if not str(value).endswith('KFoldDataset'):
            continue
        key = key.removesuffix('.type')
        if entries.get(f'{key}.seed') is None:
            return key, (
                f'Set {key}.seed, and that of the other dataloaders, to one '
                'number: KFoldDataset does not shuffle without it, and the '
                'images are sorted by class')
        return key, None
    return None, None


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


def _load(field: str, loader: dict,
          parts: Dict[str, BaseDataset]) -> Optional[DataLoader]:
    """Build a dataloader as the runner does. It starts no workers.

    The data set of an ``InMemoryDataset`` is loaded without it. The loaded
    data sets take the places of ``parts``.
    """
    downloads = any(
        getattr(part, 'download', False) for part in parts.values())
    loader = copy.deepcopy(dict(loader))
    loader.setdefault('collate_fn', dict(type='default_collate'))
    key, dataset = f'{field}.dataset', loader['dataset']
    if _kind(key, dataset) is InMemoryDataset:
        key, dataset = f'{key}.dataset', dataset['dataset']
        loader['dataset'] = dataset
    for inner, config in datasets_of(key, dataset):
        if downloads and 'download' in parameters(_kind(inner, config)):
            config['download'] = False
        if 'serialize_data' in parameters(_kind(inner, config)):
            config['serialize_data'] = False  # that is for workers
    keys = [inner for inner, _ in datasets_of(key, dataset)]
    with building(field, copy.deepcopy(loader), DataLoader):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # the run gives them, too
                built = Runner.build_dataloader(loader, seed=0)
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
    parts.update((inner, part)
                 for inner, part in zip(keys, _leaves(built.dataset))
                 if inner in parts)
    return built
