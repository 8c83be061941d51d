# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the labels of a data set, or of a checkpoint, mean."""
import os.path as osp
import re
from collections import Counter, defaultdict
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders

from ..errors import PreflightError

PURE = 0.9  # of the images in a folder have the label that the folder means


class Saying(NamedTuple):
    """The numbers of some names.

    Args:
        title (str): What says so.
        numbers (dict[str, int]): The numbers.
    """
    title: str
    numbers: Dict[str, int]


class Classes(NamedTuple):
    """The classes of a data set or a checkpoint, and where that is said.

    Args:
        key (str): The config key of the data set or of the checkpoint.
        source (str): The file, the folder or the type that says it.
        names (tuple[str]): What the classes are called, by their numbers.
            Defaults to (), unknown.
        folders (dict[str, int]): The number that each folder of images has.
            Defaults to {}, folders do not mean classes.
        by_folders (bool): Whether the folders number the classes, rather than
            a list. Defaults to False.
        counts (Counter, optional): Images per number. Defaults to None,
            unknown.
        is_part (bool): Whether ``indices`` takes a part of the data set.
            Defaults to False.
    """
    key: str
    source: str
    names: Tuple[str, ...] = ()
    folders: Dict[str, int] = {}
    by_folders: bool = False
    counts: Optional[Counter] = None
    is_part: bool = False

    @classmethod
    def of_dataset(cls, key: str, dataset: BaseDataset) -> 'Classes':
        """The classes of a data set, with counts if it has been loaded.

        Raises:
            PreflightError: If an image has no label where others have one, or
                a label that is no number.
        """
        numbered = by_folders(dataset)
        source = dataset.img_prefix.rstrip('/') if numbered else (
            dataset.ann_file or type(dataset).__name__)
        loaded = samples(dataset)
        labels = _labels(key, source, loaded)
        folders = _numbers(find_folders(
            dataset.img_prefix)[0]) if numbered else {}
        if labels and not numbered:
            folders = _folders_of(loaded, labels)
        names = dataset.metainfo.get('classes')
        if names is None or isinstance(names, str):
            names = folders if numbered else ()
        counts = None if labels is None else Counter(label
                                                     for several in labels
                                                     for label in several)
        return cls(key, source, tuple(map(str, names)), folders, numbered,
                   counts, dataset._indices is not None)

    @classmethod
    def of_checkpoint(cls, key: str, path: str, meta: dict) -> 'Classes':
        """The classes that the meta of a checkpoint states."""
        names = (meta.get('dataset_meta') or {}).get('classes') or ()
        return cls(key, path,
                   () if isinstance(names, str) else tuple(map(str, names)))

    @property
    def field(self) -> str:
        """The dataloader, such as 'train_dataloader'."""
        return self.key.split('.')[0]

    def named(self, number: int) -> str:
        """A class for a message."""
        if not 0 <= number < len(self.names):
            return str(number)
        return f'{number} ({self.names[number]})'

    def sayings(self) -> List[Saying]:
        """All that it says of names and numbers."""
        says, where = [], f'{self.source} ({self.key})'
        if self.folders:
            says.append(Saying(f'the folders of {where}', self.folders))
        if self.names and [*self.names] != [*self.folders]:
            says.append(
                Saying(f'the classes of {where}', _numbers(self.names)))
        return says


def by_folders(dataset: BaseDataset) -> bool:
    """Whether the folders of a data set number its classes."""
    return (reads_as_custom(dataset) and not dataset.ann_file
            and osp.isdir(dataset.img_prefix))


def reads_as_custom(dataset: BaseDataset) -> bool:
    """Whether a data set reads labels as MMPretrain's ``CustomDataset``."""
    return isinstance(dataset, CustomDataset) and dataset.with_label and all(
        getattr(type(dataset), name) is getattr(CustomDataset, name)
        for name in ('load_data_list', '_find_samples'))


def samples(dataset: BaseDataset) -> List[dict]:
    """The annotations of a data set; none if it has not been loaded."""
    if not dataset._fully_initialized:
        return []
    # without a copy, and without the images that a data set may add
    return dataset.data_list or [
        BaseDataset.get_data_info(dataset, index)
        for index in range(len(dataset))
    ]


def spelled(names: Iterable[str]) -> Dict[str, str]:
    """Names without case, punctuation and a number in front.

    Returns:
        dict[str, str]: From these spellings to the names. Names that would
        become the same, such as C and C++, keep their own.
    """

    def bare(name: str) -> str:
        short = re.sub(r'^\d+[\s._-]+(?=\w)', '', name.strip())
        return re.sub(r'[\W_]+', '', short).casefold()

    names = list(names)
    alike = Counter(map(bare, names))
    return {
        bare(name) if bare(name) and alike[bare(name)] == 1 else name: name
        for name in names
    }


def _numbers(names: Iterable[str]) -> Dict[str, int]:
    """The number of each name that is there once."""
    names = list(names)
    several = Counter(names)
    return {
        name: number
        for number, name in enumerate(names) if several[name] == 1
    }


def _labels(key: str, source: str, infos: List[dict]) -> Optional[list]:
    """Tuples of the labels of each image, None if there are none."""
    found = []
    for index, info in enumerate(infos):
        label = info.get('gt_label')
        if type(label) is int:
            found.append((label, ))
            continue
        kind = np.asarray(label).dtype.kind if np.size(label) else 'i'
        if kind in 'US' or isinstance(label, float) or (label is None
                                                        and found):
            raise PreflightError(
                f'{key} ({source}): gt_label of '
                f'{info.get("img_path", f"image {index}")} is {label!r}: every'
                ' image needs a class, as a whole number that counts from 0')
        if kind not in 'iu':
            return None
        found.append(tuple(np.ravel(label).tolist()))
    return found or None


def _folders_of(infos: List[dict], labels: list) -> Dict[str, int]:
    """The folders that mean classes: one label each, and no label twice.

    They are the folders below what all images have in common.
    """
    places: dict = defaultdict(Counter)
    for info, several in zip(infos, labels):
        path = info.get('img_path')
        if not isinstance(path, str) or len(several) != 1:
            return {}
        places[osp.dirname(path)].update(several)
    try:
        root = osp.commonpath(places)
    except ValueError:  # absolute and relative paths
        return {}
    folders: dict = defaultdict(Counter)
    for place, counts in places.items():
        if place != root:
            folders[osp.relpath(place, root or '.').split('/')[0]] += counts
    numbers = {}
    for folder, counts in folders.items():
        (label, count), = counts.most_common(1)
        if count < PURE * sum(counts.values()):
            return {}
        numbers[folder] = label
    distinct = len(set(numbers.values())) == len(numbers) > 1
    return numbers if distinct else {}
