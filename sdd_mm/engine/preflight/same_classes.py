# Copyright (c) sdd_mm contributors. All rights reserved.
"""A class has one number, wherever a run meets it."""
from collections import Counter
from itertools import combinations
from typing import Dict, List, Optional, Sequence

import numpy as np
from mmengine.dataset import BaseDataset
from torch import nn

from ...runtime.utils import num_classes
from ..errors import PreflightError
from .classes import Classes, Saying, samples, spelled
from .files import some, warn


def check_classes(found: List[Classes], model: nn.Module) -> None:
    """The data sets agree with themselves, each other and the model.

    Args:
        found (list[Classes]): The classes of each data set.
        model (nn.Module): The model, or algorithm with its student.

    Raises:
        PreflightError: If a name has two numbers, class folders are absent,
            or the head has another number of classes.
    """
    for one, other in combinations(found, 2):
        if one.by_folders and other.by_folders:
            _check_folders([*one.folders], one, other)
    says = [saying for one in found for saying in one.sayings()]
    for ours, theirs in combinations(says, 2):
        _check_numbers(
            ours, theirs, 'MMPretrain numbers folders by their sorted names, '
            'whatever `classes` says, and lists by their labels: give each '
            'class one number, or leave out `classes` where it disagrees')
    for one, other in combinations(found, 2):
        if not (one.by_folders or other.by_folders):
            _check_stated(one, other)
    for one in found:
        _check_count(one, model)


def check_checkpoint(checkpoint: Classes, found: List[Classes],
                     remedy: str) -> None:
    """The classes of a checkpoint are those of the data, in their order.

    Names that have nothing in common, such as WordNet's numbers and words,
    are left to the user, with a warning.

    Args:
        checkpoint (Classes): What a checkpoint states, if anything.
        found (list[Classes]): The data sets that the network will see.
        remedy (str): A sentence for the user.

    Raises:
        PreflightError: If a name has another number, or some names are the
            same and some are not.
    """
    for data in found if checkpoint.names else ():
        if (data.by_folders and data.field != 'train_dataloader' and
                set(spelled(data.folders)) & set(spelled(checkpoint.names))):
            _check_folders(checkpoint.names, checkpoint, data)
        theirs, = checkpoint.sayings()
        known, nearest = spelled(theirs.numbers), None
        for ours in data.sayings():
            _check_numbers(ours, theirs, remedy)
            names = spelled(ours.numbers)
            other = [
                name for short, name in names.items() if short not in known
            ]
            if len(other) < len(names) and (nearest is None
                                            or len(other) < len(nearest)):
                nearest = other
        if nearest:
            raise PreflightError(
                f'{data.key} ({data.source}) has a class {nearest[0]!r}, '
                f'{checkpoint.key} {checkpoint.source} has none of this name, '
                f'but others of {data.key}: {some([*checkpoint.names])}. '
                f'{remedy}. If they are the same classes, set {data.key}'
                '.classes to the names of the checkpoint')
        if nearest is None and data.names:
            warn(f'{checkpoint.key} {checkpoint.source} has the classes '
                 f'{some([*checkpoint.names], 3)}, {data.key} '
                 f'{some([*data.names], 3)}: make sure that they are the same '
                 'in the same order')
            return


def check_range(one: Classes, dataset: BaseDataset,
                outputs: Optional[int]) -> None:
    """Each label of a loaded data set is one of the head's classes.

    Raises:
        PreflightError: With the first image whose label is none.
    """
    labels = one.counts or {}
    wrong = [label for label in labels if not 0 <= label < (outputs or 0)]
    if not wrong or one.by_folders or outputs is None:
        return
    name, label = next(
        (info.get('img_path', f'image {index}'), info['gt_label'])
        for index, info in enumerate(samples(dataset))
        if np.isin(info['gt_label'], wrong).any())
    remedy = ('correct the annotations, or set head.num_classes of student '
              'and teacher')
    if min(labels) == 1 and max(labels) == outputs:
        remedy = 'the labels count from 1: subtract 1 from each'
    raise PreflightError(
        f'{one.key} ({one.source}): {name}: label {label} is not one of the '
        f'{outputs} classes of the student: {remedy}')


def check_presence(found: List[Classes], outputs: Optional[int],
                   remedy: Optional[str]) -> None:
    """Training shows every class that is evaluated.

    Args:
        found (list[Classes]): The classes of each data set.
        outputs (int, optional): Classes of the head.
        remedy (str, optional): What to do. Defaults to None, to add images.

    Raises:
        PreflightError: If it does not, and no data set is a part by
            ``indices``.
    """
    totals: Dict[str, Optional[Counter]] = {}
    for one in found:
        total = totals.setdefault(one.field, Counter())
        totals[one.field] = None if None in (
            total, one.counts) else total + one.counts
    trained = totals.get('train_dataloader')
    named = next((one.named for one in found if one.names), str)
    for field, counts in totals.items():
        if not counts or outputs is None:
            continue
        unseen = sorted(set(counts) - set(trained or counts))
        if unseen:
            text = (f'{field} has images of classes of which '
                    f'train_dataloader has none: '
                    f'{some([*map(named, unseen)])}. ' +
                    (remedy or 'Add training images of these classes, or '
                     f'take theirs out of {field}'))
            if not any(one.is_part for one in found):
                raise PreflightError(text)
            warn(text)
        absent = sorted(set(range(outputs)) - set(counts))
        if absent:
            warn(f'{field} has no image of {len(absent)} of the {outputs} '
                 f'classes: {some([*map(named, absent)])}')


def _check_numbers(ours: Saying, theirs: Saying, remedy: str) -> None:
    """No name has two numbers."""
    known = spelled(theirs.numbers)
    for short, name in spelled(ours.numbers).items():
        number, other = ours.numbers[name], known.get(short, name)
        if short in known and number != theirs.numbers[other]:
            raise PreflightError(
                f'{name!r} is class {number} in {ours.title}, ' +
                f'and {other!r} ' * (other != name) +
                f'class {theirs.numbers[other]} in {theirs.title}. {remedy}')


def _check_folders(known: Sequence[str], one: Classes, other: Classes) -> None:
    """Where folders number the classes, all data have the same folders."""
    names, folders = spelled(known), spelled(other.folders)
    absent = [names[short] for short in names if short not in folders]
    more = [folders[short] for short in folders if short not in names]
    texts = []
    if absent:
        texts.append(f'it has no folder {some(absent)}: create it, even if '
                     f'it stays empty (mkdir {other.source}/{absent[0]})')
    if more:
        texts.append(f'it has a folder {some(more)}, which is no class of '
                     f'{one.source}: rename or remove it' +
                     f', or add it to {one.source}' * one.by_folders)
    if texts:
        raise PreflightError(
            f'{other.key} must have the class folders of {one.key} '
            f'({one.source}), since their sorted order numbers the classes. '
            f'It reads {other.source}, and {"; ".join(texts)}')


def _check_stated(one: Classes, other: Classes) -> None:
    """Two data sets that both name their classes have the same names."""
    names = [*spelled(one.names)], [*spelled(other.names)]
    if [] in names or names[0] == names[1]:
        return
    absent, more = (some([name for name in a if name not in b]) or 'none'
                    for a, b in ((one.names, other.names), (other.names,
                                                            one.names)))
    raise PreflightError(
        f'{other.key} has {len(other.names)} classes, {one.key} has '
        f'{len(one.names)}, and their order numbers the classes. Absent from '
        f'{other.key}: {absent}; absent from {one.key}: {more}. Use data of '
        'the same classes, or set the same `classes` for both')


def _check_count(one: Classes, model: nn.Module) -> None:
    """The head has an output per folder, and one per name at least."""
    outputs = num_classes(model)
    count = len(one.folders if one.by_folders else one.names)
    if outputs is None or count == outputs:
        return
    student = type(getattr(model, 'architecture', model)).__name__
    head = f'the head of {student}'
    if not one.by_folders:
        if count > outputs:
            raise PreflightError(
                f'{one.key} ({one.source}) has {count} classes, {head} '
                f'{outputs}: set `num_classes` of the heads and of '
                'data_preprocessor')
        return
    remedy = (f'set head.num_classes of the model, and of model.teacher, to '
              f'{count}, or {one.key}.data_root to the data of all classes')
    if one.field != 'train_dataloader':
        remedy = (f'set {one.key}.data_root to a folder with one folder per '
                  'class; that of a class without images stays empty')
    raise PreflightError(f'{one.key}: {one.source} has {count} class folders '
                         f'({some([*one.folders])}), {head} has {outputs} '
                         f'classes: {remedy}')
