# Copyright (c) sdd_mm contributors. All rights reserved.
"""The classes of data sets, compared with the model and with each other."""
import os
import os.path as osp
from typing import List

from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CustomDataset
from torch import nn

from ...runtime.utils import num_classes
from ..errors import PreflightError


def by_folders(dataset: BaseDataset) -> bool:
    """Whether the folders of a data set number its classes."""
    return (isinstance(dataset, CustomDataset) and dataset.with_label
            and not dataset.ann_file and osp.isdir(dataset.img_prefix))


def _folders(dataset: BaseDataset) -> List[str]:
    """Its class folders, in the order that numbers them."""
    return sorted(
        folder.name for folder in os.scandir(dataset.img_prefix)
        if folder.is_dir() and not folder.name.startswith('.'))


def check_folders(key: str, dataset: BaseDataset, model: nn.Module) -> None:
    """A folder per class, with something in it; MMPretrain only warns."""
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
            f'{_some(empty)}. Each is a class of its own: fill them or remove '
            f'them, or set {key}.data_root to the whole data')
    if outputs is not None and len(found) != outputs:
        raise PreflightError(
            f'{key}: {root} has {len(found)} class folders ({_some(found)}), '
            f'the head of {_student(model)} has {outputs} classes: set '
            'head.num_classes of the model, and of model.teacher, to '
            f'{len(found)}, or {key}.data_root to the data of all classes')


def check_classes(key: str, dataset: BaseDataset, model: nn.Module) -> None:
    """No more classes than the head has, and a pipeline."""
    classes, outputs = dataset.metainfo.get('classes'), num_classes(model)
    if classes is not None and outputs is not None and len(classes) > outputs:
        raise PreflightError(
            f'{key} ({type(dataset).__name__}) has {len(classes)} classes, '
            f'the head of {_student(model)} {outputs}: set `num_classes` of '
            'the heads and of data_preprocessor')
    if not dataset.pipeline.transforms:
        raise PreflightError(f'{key}.pipeline is empty: it must end with '
                             "dict(type='PackInputs')")


def check_same_classes(key: str, dataset: BaseDataset, seen: dict) -> None:
    """Class names, and with them labels, are the same in all data sets.

    ``seen`` keeps the names of the first.
    """
    numbered = by_folders(dataset)
    names = (
        _folders(dataset) if numbered else dataset.metainfo.get('classes'))
    first, known = seen.setdefault(numbered, (key, names))
    if names is None or known is None or list(known) == list(names):
        return
    absent, more = (_some(sorted(map(str,
                                     set(a) - set(b)))) or 'none'
                    for a, b in ((known, names), (names, known)))
    what = 'class folders' if numbered else 'classes'
    raise PreflightError(
        f'{key} has {len(names)} {what}, {first} has {len(known)}, and their '
        f'order numbers the classes. Absent from {key}: {absent}; absent from '
        f'{first}: {more}. Set data_root to data of the same classes')


def _student(model: nn.Module) -> str:
    return type(getattr(model, 'architecture', model)).__name__


def _some(names: list) -> str:
    return ', '.join(names[:5]) + ', ...' * (len(names) > 5)
