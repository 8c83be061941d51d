# Copyright (c) sdd_mm contributors. All rights reserved.
"""The files of a data set: class folders, annotation lists, images."""
import logging
import os
import os.path as osp
import re
from collections import Counter
from typing import Dict, List, Optional

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.fileio import LocalBackend, get_file_backend, list_from_file
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders

from ...datasets import LoadTeacherImage, PairedInputsError
from ..errors import PreflightError
from .classes import by_folders, reads_as_custom, samples

LOOKED_AT = 20000  # images of a data set, whose first and last bytes are read
MANY = 100000  # images, which a slow disk needs time to find
DECODED = 1000  # of those that look damaged
# how other images than JPEG and PNG begin: BMP, TIFF, GIF, WebP, PNM
BEGINNINGS = re.compile(rb'BM|II\*\0|MM\0\*|GIF8|RIFF|P[1-7]\s')


def check_folders(key: str, dataset: BaseDataset, trains: bool) -> None:
    """A folder per class with images in it, and no other folder.

    Args:
        key (str): The dotted key of the data set.
        dataset (BaseDataset): The data set, which need not be loaded.
        trains (bool): Whether each class needs an image.

    Raises:
        PreflightError: If there is a hidden folder, which MMPretrain takes
            for a class or for a part of one, if a training class has no image,
            or if there are more or fewer names than folders.
    """
    if not by_folders(dataset):
        return
    root = dataset.img_prefix.rstrip('/')
    empty: list = []
    unread: Counter = Counter()
    folders, _ = find_folders(root)
    for name in folders:
        hidden = name.startswith('.')
        read = 0
        others: Counter = Counter()
        for place, _, files in os.walk(osp.join(root, name), followlinks=True):
            kept = [file for file in files if not file.startswith('.')]
            good = sum(map(dataset.is_valid_file, kept))
            inside = osp.relpath(place, root).split('/')
            if hidden or good and any(one.startswith('.') for one in inside):
                raise PreflightError(
                    f'{key}: MMPretrain reads the hidden folder {place} as '
                    f'{"a class" if hidden else "images of class " + name}: '
                    'remove it')
            read += good
            others.update(
                osp.splitext(file)[1] or 'no suffix' for file in kept
                if not dataset.is_valid_file(file))
        unread += others
        if not read:
            empty.append(f'{name} ({_kinds(others)})' if others else name)
    names = dataset.CLASSES
    if names is not None and len(names) != len(folders):
        raise PreflightError(
            f'{key} has {len(names)} classes ({some([*names])}), {root} has '
            f'{len(folders)} class folders ({some(folders)}): give one name '
            'for each folder, in their sorted order, or leave out `classes`')
    if empty and trains:
        raise PreflightError(
            f'{key}: class folders in {root} are empty: '
            f'{some(empty)}. Each is a class of its own: fill them or remove '
            f'them, or set {key}.data_root to the whole data' +
            _extensions(key, dataset) * bool(unread))
    if unread:
        warn(f'{key}: some files in {root} are not read: '
             f'{_kinds(unread)}' + _extensions(key, dataset))


def _kinds(suffixes: Counter) -> str:
    return some([f'{count} {kind}' for kind, count in suffixes.most_common()])


def _extensions(key: str, dataset: CustomDataset) -> str:
    return (f'. To read other suffixes than {sorted(dataset.extensions)}, set '
            f'{key}.extensions')


def check_list(key: str, dataset: BaseDataset) -> None:
    """Each line of an annotation list is a path, a space and a number.

    Raises:
        PreflightError: With the first line that is not.
    """
    if not reads_as_custom(dataset) or not dataset.ann_file:
        return
    title = f'{key}.ann_file {dataset.ann_file}'
    try:
        lines = list_from_file(dataset.ann_file)
    except UnicodeDecodeError as error:
        raise PreflightError(
            f'{title} is not a text in UTF-8 ({error}): save it as UTF-8, '
            'without a byte order mark') from None
    except OSError:
        return  # loading it says what is absent
    if lines and lines[0].startswith('\ufeff'):
        raise PreflightError(f'{title} begins with a byte order mark, which '
                             'would belong to the first path: save it as '
                             'UTF-8 without one')
    for number, line in enumerate(lines, 1):
        if not re.fullmatch(r'.*\S [+-]?\d+', line.strip()):
            raise PreflightError(
                f"{title}, line {number}: {line!r} is not 'NAME LABEL', a "
                'path, one space and the number of a class: ' +
                ('correct the line' if line.strip() else 'remove the line'))


def check_images(key: str, dataset: BaseDataset) -> None:
    """All images are there, and those that are looked at are whole.

    Raises:
        PreflightError: With the first that is not, and how many.
    """
    load = next((step for step in dataset.pipeline.transforms if getattr(
        type(step), 'transform', None) is LoadImageFromFile.transform), None)
    paths = [
        info['img_path'] for info in samples(dataset)
        if isinstance(info.get('img_path'), str)
    ]
    if (load is None or load.ignore_empty or not paths
            or not _is_local(load, paths[0])):
        return
    if not by_folders(dataset):  # they have just been found there
        if len(paths) > MANY:
            print_log(
                f'{key}: looking for {len(paths)} images', logger='current')
        absent = [path for path in paths if not osp.isfile(path)]
        if absent:
            raise PreflightError(
                f'{key}: {len(absent)} of {len(paths)} images are absent, '
                f'first {absent[0]!r}. Correct {key}.data_prefix, or '
                f'the paths in {dataset.ann_file or type(dataset).__name__}')
    broken = broken_images(_spread(paths, LOOKED_AT), load)
    for step in dataset.pipeline.transforms:
        if isinstance(step, LoadTeacherImage):
            _check_teacher_images(key, step, paths)
    if broken:
        first, *more = broken
        raise PreflightError(f'{key}: {broken[first]}' +
                             f'. It is not the only one: {some(more)}' *
                             bool(more))


def _check_teacher_images(key: str, step: LoadTeacherImage,
                          paths: List[str]) -> None:
    """Every image has one for the teacher beside it."""
    try:
        pairs = {path: step.path_of(path) for path in paths}
    except PairedInputsError as error:
        raise PreflightError(f'{key}.pipeline: {error}') from error
    absent = [path for path, other in pairs.items() if not osp.isfile(other)]
    if absent:
        raise PreflightError(
            f"{key}: the teacher's images of {len(absent)} of {len(paths)} "
            f'images are absent, first {pairs[absent[0]]!r} for {absent[0]!r}')
    first = cv2.imread(pairs[paths[0]], cv2.IMREAD_UNCHANGED)
    if (first is not None and first.dtype != np.uint8
            and step.color_type in ('color', 'grayscale')):
        raise PreflightError(
            f"{key}: the teacher's image {pairs[paths[0]]!r} has values of "
            f'{first.dtype}, of which color_type={step.color_type!r} of '
            "LoadTeacherImage keeps 8 bits: set it to 'unchanged'")


def broken_images(paths: List[str],
                  load: LoadImageFromFile) -> Dict[str, Exception]:
    """Images that cannot be decoded, with the reason.

    Args:
        paths (list[str]): Paths of images. Those that begin and end as an
            image does are not decoded.
        load (LoadImageFromFile): What decodes the others.
    """
    broken = {}
    suspects = [path for path in paths if not _looks_whole(path)]
    for path in _spread(suspects, DECODED):
        try:
            load.transform(dict(img_path=path))
        except Exception as error:  # decoders may raise anything
            broken[path] = error
    return broken


def check_apart(datasets: Dict[str, BaseDataset],
                folds: Optional[str]) -> None:
    """What is evaluated are no training images.

    Args:
        datasets (dict[str, BaseDataset]): The data sets, by their keys.
        folds (str, optional): The key of a ``KFoldDataset``. Defaults to
            None: someone may want to know the accuracy on training images.

    Raises:
        PreflightError: If most are, and there are folds.
    """
    images: dict = {}
    for key, dataset in datasets.items():
        images.setdefault(key.split('.')[0], []).extend(
            hash(info.get('img_path') or info['img'].tobytes())
            for info in samples(dataset)
            if isinstance(info.get('img_path', ''), str) and (
                'img_path' in info or isinstance(info.get('img'), np.ndarray)))
    trained = set(images.pop('train_dataloader', ()))
    for field, own in images.items():
        count = len(trained.intersection(own))
        if 2 * count <= len(own):
            continue
        text = (f'{count} of the {len(own)} images of {field} are training '
                'images')
        if folds is not None:
            raise PreflightError(
                f'{text}: set fold, num_splits and seed of KFoldDataset to '
                f'the same as in {folds}, and its test_mode to True')
        warn(text)


def _is_local(load: LoadImageFromFile, path: str) -> bool:
    client = load.file_client_args
    return (client is None or client.get('backend') == 'disk') and isinstance(
        get_file_backend(path, backend_args=load.backend_args), LocalBackend)


def _spread(items: List[str], most: int) -> List[str]:
    """All, or so many from all over a list."""
    if len(items) <= most:
        return items
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, most)]


def _looks_whole(path: str) -> bool:
    """Whether a file begins, and a JPEG or PNG ends, as an image does."""
    try:
        with open(path, 'rb') as file:
            start = file.read(8)
            file.seek(max(0, os.fstat(file.fileno()).st_size - 12))
            end = file.read()
    except OSError:
        return False  # reading it says why
    if start.startswith(b'\xff\xd8'):
        return end.endswith(b'\xff\xd9')
    if start.startswith(b'\x89PNG'):
        return end.endswith(b'IEND\xaeB`\x82')
    return bool(BEGINNINGS.match(start))


def some(names: list, most: int = 5) -> str:
    """The first few names for a message."""
    return ', '.join(map(str, names[:most])) + ', ...' * (len(names) > most)


def warn(text: str) -> None:
    """One line in the log."""
    print_log(text, logger='current', level=logging.WARNING)
