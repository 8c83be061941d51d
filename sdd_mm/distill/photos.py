# Copyright (c) sdd_mm contributors. All rights reserved.
"""A folder of pictures: its classes, its split, and what cannot be read."""
import mimetypes
import os
import random
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from mmcv.transforms import LoadImageFromFile

from ..engine.preflight.files import broken_images, some
from ..errors import SDDError

TRAIN = ('train', 'training')
VAL = ('val', 'valid', 'validation', 'test', 'testing')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff',
            '.webp')
UNREAD = ('.heic', '.heif', '.avif', '.jxl')  # which not all systems know
Sample = Tuple[str, str]  # path relative to the folder, class


class PhotosError(SDDError, ValueError):
    """A folder that is not one of pictures in class folders."""


class Photos(NamedTuple):
    """What is in a folder.

    Args:
        folder (Path): The folder.
        classes (list[str]): Names of the classes, sorted.
        train (list[tuple[str, str]]): Paths, relative to the folder, and
            classes of the pictures to train on.
        val (list[tuple[str, str]]): Those to validate on.
        notes (list[str]): What to tell the user.
    """
    folder: Path
    classes: List[str]
    train: List[Sample]
    val: List[Sample]
    notes: List[str]


def find_photos(folder: Path, seed: int = 0, share: float = 0.2) -> Photos:
    """Look at a folder of pictures.

    It has a folder for each class, or ``train`` and ``val`` with a folder for
    each class. Without ``val``, a share of each class is set aside.

    Args:
        folder (Path): The folder.
        seed (int): The seed of the split. Defaults to 0.
        share (float): The share of each class that is set aside. Defaults to
            0.2.

    Returns:
        Photos: The readable pictures.

    Raises:
        PhotosError: If there are no class folders, fewer than two classes, or
            too few pictures of one.
    """
    if not folder.is_dir():
        raise PhotosError(f'--data {folder} is not a folder')
    split = {
        part: next((name for name in names if (folder / name).is_dir()), None)
        for part, names in (('train', TRAIN), ('val', VAL))
    }
    if split['val'] and not split['train']:
        raise PhotosError(f'--data {folder} has {split["val"]}, but no train: '
                          'add it, with a folder for each class')
    trained, other = _samples(folder, split['train'])
    validated: List[Sample] = []
    if split['val']:
        validated, more = _samples(folder, split['val'])
        other += more
    notes: List[str] = []
    if other:
        notes.append(
            f'{len(other)} pictures of formats that are not read are left '
            f'out: {some(other)}. Convert them to JPEG or PNG')
    trained, validated = _readable(folder, trained, validated, notes)
    classes = sorted({name for _, name in trained})
    if len(classes) < 2:
        raise PhotosError(
            f'--data {folder} has pictures of {len(classes)} class(es) to '
            'train on: make one folder for each class and put its pictures '
            'there, or into train/CLASS/ and val/CLASS/')
    others = sorted({name for _, name in validated} - set(classes))
    if others:
        raise PhotosError(
            f'{folder / split["val"]} has classes without training pictures: '
            f'{some(others)}. Add them to {folder / (split["train"] or "")}, '
            'or remove these folders')
    if not validated:
        trained, validated = set_aside(trained, seed, share)
        notes.append(
            f'{folder} has no folder val: {len(validated)} of its pictures, '
            f'{share:.0%} of each class, are set aside to validate (seed '
            f'{seed})')
    return Photos(folder, classes, trained, validated, notes)


def _samples(folder: Path,
             part: Optional[str]) -> Tuple[List[Sample], List[str]]:
    """All pictures below the class folders of a part, sorted, and the paths
    of those in other formats."""
    root = folder / part if part else folder
    found: List[Sample] = []
    other: List[str] = []
    for place in sorted(root.iterdir()):
        if place.is_dir() and not place.name.startswith('.'):
            for directory, inner, files in os.walk(place, followlinks=True):
                inner[:] = sorted(
                    name for name in inner if not name.startswith('.'))
                for name in sorted(files):
                    path = os.path.relpath(Path(directory, name), folder)
                    if name.startswith('.'):
                        continue
                    if name.lower().endswith(SUFFIXES):
                        found.append((path, place.name))
                    elif _is_picture(name):
                        other.append(path)
    return found, other


def _is_picture(name: str) -> bool:
    """Whether a name is that of a picture in some format."""
    kind = mimetypes.guess_type(name)[0] or ''
    return kind.startswith('image/') or name.lower().endswith(UNREAD)


def _readable(folder: Path, trained: List[Sample], validated: List[Sample],
              notes: List[str]) -> Tuple[List[Sample], List[Sample]]:
    """Leave out what cannot be decoded, and say so."""
    paths = {str(folder / path): path for path, _ in (*trained, *validated)}
    broken = {
        paths[path]
        for path in broken_images(list(paths), LoadImageFromFile())
    }
    if broken:
        notes.append(f'{len(broken)} of {len(paths)} files cannot be read as '
                     f'pictures and are left out: {some(sorted(broken))}')
    return tuple([sample for sample in part if sample[0] not in broken]
                 for part in (trained, validated))


def set_aside(samples: List[Sample], seed: int,
              share: float) -> Tuple[List[Sample], List[Sample]]:
    """Split pictures into those to train and to validate on, by class.

    Raises:
        PhotosError: If a class has a single picture.
    """
    by_class: Dict[str, List[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample[1], []).append(sample)
    alone = [name for name, own in by_class.items() if len(own) < 2]
    if alone:
        raise PhotosError(
            f'classes with a single picture cannot be split: {some(alone)}. '
            'Add pictures, or make train/CLASS/ and val/CLASS/ yourself')
    generator, kept = random.Random(seed), []
    for own in by_class.values():
        count = min(max(1, round(share * len(own))), len(own) - 1)
        kept += generator.sample(own, count)
    chosen = set(kept)
    return [one for one in samples if one not in chosen], sorted(kept)


def write_lists(photos: Photos, folder: Path) -> Dict[str, Path]:
    """Write annotation lists, ``PATH LABEL``, for ``CustomDataset``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part in ('train', 'val'):
        lines = [
            f'{path} {photos.classes.index(name)}\n'
            for path, name in getattr(photos, part)
        ]
        written[part] = folder / f'{part}.txt'
        written[part].write_text(''.join(lines), encoding='utf-8')
    return written


def balance(photos: Photos) -> str:
    """Numbers of pictures, in a sentence."""
    counts = Counter(name for _, name in photos.train)
    least, most = min(counts.values()), max(counts.values())
    each = f'{least}' if least == most else f'{least} to {most}'
    return (f'{len(photos.train)} pictures to train on ({each} of each of '
            f'{len(photos.classes)} classes), {len(photos.val)} to validate')
