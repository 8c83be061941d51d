# Copyright (c) sdd_mm contributors. All rights reserved.
"""A class has one number, wherever a run meets it."""
from collections import Counter
from itertools import chain, combinations, product
from typing import Dict, List, Optional, Tuple

from mmengine.dataset import BaseDataset
from torch import nn

from ...runtime.utils import num_classes
from ..errors import PreflightError
from .classes import Classes, samples, spelled
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
    for one in found:
        if one.by_folders and len(one.names) != len(one.folders):
            raise PreflightError(
                f'{one.key}.classes has {len(one.names)} names, '
                f'{one.source} has {len(one.folders)} class folders '
                f'({some([*one.folders])}): leave out `classes`, or give one '
                'name for each folder, in their sorted order')
        _check_names(one, one)
    for one, other in combinations(found, 2):
        if one.by_folders and other.by_folders:
            _check_folders(one, other)
        _check_names(one, other)
        if not (one.by_folders or other.by_folders):
            _check_stated(one, other)
    for one in found:
        _check_count(one, model)


def check_checkpoint(checkpoint: Classes, found: List[Classes],
                     remedy: str) -> None:
    """The classes of a checkpoint are those of the data, in their order.

    Args:
        checkpoint (Classes): What a checkpoint states, if anything.
        found (list[Classes]): The data sets that the network will see.
        remedy (str): A sentence for the user.

    Raises:
        PreflightError: If a name has another number, or some names are the
            same and some are not.
    """
    if not checkpoint.names:
        return
    (_, theirs), = checkpoint.sayings()
    unlike = None
    for data in found:
        if (data.by_folders and set(data.folders) & set(theirs)
                and data.field != 'train_dataloader'):
            _check_folders(checkpoint, data)
        for title, ours in data.sayings():
            _check_pair(title, ours, f'{checkpoint.key} {checkpoint.source}',
                        theirs, remedy)
        says = [ours for _, ours in data.sayings()]
        short = [spelled(ours) for ours in says]
        known = spelled(theirs)
        if not says or any(set(one) <= set(known) for one in short):
            continue
        if not any(set(one) & set(known) for one in short):
            unlike = unlike or data
            continue
        name = next(one[key] for one in short if set(one) & set(known)
                    for key in one if key not in known)
        number = {**says[-1], **says[0]}[name]
        raise PreflightError(
            f'{checkpoint.key} {checkpoint.source} calls class '
            f'{checkpoint.named(number)}, {data.key} ({data.source}) calls it '
            f'{name!r}, and other names are the same. {remedy}. If it is the '
            f'same class, set {data.key}.classes to the names of the '
            'checkpoint')
    if unlike is not None:
        warn(f'{checkpoint.key} {checkpoint.source} names its classes '
             f'{some([*checkpoint.names][:3])}, ..., {unlike.key} '
             f'{some([*unlike.names][:3])}, ...: make sure that they are the '
             'same classes in the same order')


def check_range(one: Classes, dataset: BaseDataset,
                outputs: Optional[int]) -> None:
    """Each label of a loaded data set is one of the head's classes.

    Raises:
        PreflightError: With the first image whose label is none.
    """
    labels = one.counts or {}
    wrong = {label for label in labels if outputs and not 0 <= label < outputs}
    if not wrong or one.by_folders:
        return
    name, label = next(
        (info.get('img_path', f'image {index}'), info['gt_label'])
        for index, info in enumerate(samples(dataset))
        if wrong & {*_flat(info['gt_label'])})
    remedy = 'correct the annotations, or set head.num_classes of student ' \
        'and teacher'
    if min(labels) == 1 and max(labels) == outputs:
        remedy = 'labels count from 0, and these count from 1: subtract 1 ' \
            'from each'
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
        if total is not None:
            totals[one.field] = one.counts and total + one.counts
    trained = totals.pop('train_dataloader', None)
    is_part = any(one.is_part for one in found)
    named = next((one.named for one in found if one.names), str)
    for field, counts in totals.items():
        unseen = sorted(set(counts or ()) - set(trained or ()))
        if trained and unseen:
            text = (
                f'{field} has images of {len(unseen)} classes of which '
                f'train_dataloader has none: {some([*map(named, unseen)])}. ' +
                (remedy or 'Add training images of these classes, or '
                 f'take theirs out of {field}'))
            if not is_part:
                raise PreflightError(text)
            warn(text)
    for field, counts in dict(train_dataloader=trained, **totals).items():
        absent = [n for n in range(outputs or 0) if n not in (counts or ())]
        if counts and absent:
            warn(f'{field} has no image of {len(absent)} of the {outputs} '
                 f'classes: {some([*map(named, absent)])}')


def _check_names(one: Classes, other: Classes) -> None:
    """A name has the same number in all that two data sets say."""
    same = one is other
    remedy = ('Give the same classes the same numbers in both: folders are '
              'numbered by their sorted names, lists by their labels')
    if same:
        remedy = (
            'MMPretrain numbers the classes by their folders, in sorted order:'
            ' list the classes in that order, or leave them out'
            if one.by_folders else 'Correct the labels of the list, or the '
            f'order of {one.key}.classes')
    for ours, theirs in (combinations if same else product)(
            *((one.sayings(), 2) if same else (one.sayings(),
                                               other.sayings()))):
        _check_pair(
            _of(one.key, ours[0]), ours[1], _of(other.key, theirs[0]),
            theirs[1], remedy)


def _of(key: str, title: str) -> str:
    return title if key in title else f'{title} ({key})'


def _check_pair(title: str, ours: dict, other: str, theirs: dict,
                remedy: str) -> None:
    found = _conflict(ours, theirs)
    if found is not None:
        (name, number), (known, count) = found
        what = f'and {known!r} ' * (known != name)
        raise PreflightError(f'{name!r} is class {number} in {title}, {what}'
                             f'class {count} in {other}. {remedy}')


def _conflict(ours: Dict[str, int],
              theirs: Dict[str, int]) -> Optional[Tuple[tuple, tuple]]:
    """The first name that has two numbers, with them."""
    known = spelled(theirs)
    for short, name in spelled(ours).items():
        if short in known and ours[name] != theirs[known[short]]:
            return (name, ours[name]), (known[short], theirs[known[short]])
    return None


def _check_folders(one: Classes, other: Classes) -> None:
    """Where folders number the classes, all data have the same folders."""
    known = one.folders if one.by_folders else one.names
    absent = [name for name in known if name not in other.folders]
    more = [name for name in other.folders if name not in known]
    if not absent and not more:
        return
    texts = []
    if absent:
        texts.append(f'it has no folder {some(absent)}: create it, even if it '
                     f'stays empty (mkdir {other.source}/{absent[0]})')
    if more:
        texts.append(f'it has a folder {some(more)}, which is no class of '
                     f'{one.source}: rename or remove it' +
                     f', or add it to {one.source}' * one.by_folders)
    raise PreflightError(
        f'{other.key} must have the class folders of {one.key} '
        f'({one.source}), since their sorted order numbers the classes. It '
        f'reads {other.source}, and {"; ".join(texts)}')


def _check_stated(one: Classes, other: Classes) -> None:
    """Two data sets that both name their classes have the same names."""
    if not one.names or not other.names or [*spelled(one.names)
                                            ] == [*spelled(other.names)]:
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
    student = type(getattr(model, 'architecture', model)).__name__
    count = len(one.folders if one.by_folders else one.names)
    if outputs is None or count == outputs:
        return
    if one.by_folders:
        remedy = (f'set head.num_classes of the model, and of model.teacher, '
                  f'to {count}, or {one.key}.data_root to the data of all '
                  'classes')
        if one.field != 'train_dataloader':
            remedy = (f'set {one.key}.data_root to a folder with one folder '
                      'per class; that of a class without images stays empty')
        raise PreflightError(
            f'{one.key}: {one.source} has {count} class folders '
            f'({some([*one.folders])}), the head of {student} has {outputs} '
            f'classes: {remedy}')
    if count > outputs:
        raise PreflightError(
            f'{one.key} ({one.source}) has {count} classes, the head of '
            f'{student} {outputs}: set `num_classes` of the heads and of '
            'data_preprocessor')


def _flat(label) -> list:
    return [label] if isinstance(label, int) else [*chain(label)]
