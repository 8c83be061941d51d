# Copyright (c) sdd_mm contributors. All rights reserved.
"""A teacher, tried on images that it should know."""
from pathlib import Path
from typing import Iterator, Mapping, Optional

import torch
from torch import Tensor

from ..analysis import evenly_spaced, labels_of
from ..models.algorithms import FrozenTeacherDistill
from ..models.algorithms.teacher import as_list, keys_of
from ..models.algorithms.teacher_input import OwnImages
from ..models.networks import logits_of, members_of, network_name
from ..runtime.utils import num_classes
from ..weights import weights_hash
from . import BAD, ENOUGH, GOOD, WARN, Finding

# a teacher must be at least so far from chance level to all right
LEAST = 0.1
# and one that sorts so many alike only has other numbers
SORTED = 0.25
FEW = 30  # images, with which a verdict on a teacher begins


@torch.no_grad()
def try_teacher(model: FrozenTeacherDistill, loader,
                batches: Optional[int]) -> Iterator[Finding]:
    """Let the teacher classify images; each of an ensemble, and all of it.

    Args:
        model (FrozenTeacherDistill): The model, with its teacher loaded.
        loader (DataLoader, optional): The validation images.
        batches (int, optional): Number of batches. None: ten, or as many as
            have ``ENOUGH`` images.

    Yields:
        Finding: One for each teacher, and one for their mean.
    """
    members = members_of(model.teacher)
    title = ' and '.join(map(network_name, members))
    if model.teacher_ckpt is None:
        yield Finding(
            WARN, 'teacher', f'{title} without model.teacher_ckpt, and '
            'model.allow_untrained_teacher is set: its outputs are noise')
        return
    paths = list(map(Path, as_list(model.teacher_ckpt)))
    several = len(paths) > 1
    titles = [
        f'{network_name(network)} of '
        f'{"/".join(path.parts[-2:]) if several else path.name}, SHA-256 '
        f'{weights_hash(network)[:8]}'
        for network, path in zip(members, paths)
    ]
    if loader is None:
        yield Finding(
            WARN, 'teacher', f'{" and ".join(titles)}; no val_dataloader to '
            'try it on')
        return
    if any(isinstance(part, OwnImages)
           for part in model.modules()) and not isinstance(
               loader.dataset[0]['inputs'], Mapping):
        yield Finding(
            WARN, 'teacher', f'{" and ".join(titles)}; val_dataloader has no '
            'images of its own for it, so it was not tried: give it the '
            'pipeline of train_dataloader (LoadTeacherImage, '
            'PackPairedInputs), without what is random')
        return
    verdicts, labels = _ask(model, loader, batches)
    guess = 1 / (num_classes(model) or 1000)
    for one, found, key in zip(titles, verdicts, keys_of(model.teacher)):
        yield _judge(one, found, labels, guess, key)
    if several:
        accuracy = (verdicts[-1] == labels).float().mean().item()
        yield Finding(
            GOOD, 'teacher', f'the mean of their logits: top-1 '
            f'{100 * accuracy:.1f} % of {len(labels)} images')
        if len({title.rpartition(" ")[2] for title in titles}) < len(titles):
            yield Finding(
                WARN, 'teacher', 'two of these teachers have the same '
                'weights, and count twice: correct model.teacher_ckpt')


def _ask(model: FrozenTeacherDistill, loader, batches: Optional[int]):
    """The classes that each teacher says, and their mean; and the labels."""
    members = members_of(model.teacher)
    found, labels = [], []
    size = loader.batch_size or 1
    count = max(10 * size, ENOUGH) if batches is None else batches * size
    for batch in evenly_spaced(loader, max(1, count)):
        data = model.data_preprocessor(batch)  # as in training
        images = model.teacher_images(data['inputs'])
        images = images if len(members) > 1 else [images]
        logits = torch.stack(
            [logits_of(*pair) for pair in zip(members, images)])
        found.append(torch.cat([logits, logits.mean(0, keepdim=True)]))
        labels.append(labels_of(data['data_samples']).cpu())
    return torch.cat(found, dim=1).argmax(dim=2).cpu(), torch.cat(labels)


def _judge(title: str, verdicts: Tensor, labels: Tensor, guess: float,
           key: str) -> Finding:
    """What a teacher's accuracy says of it."""
    accuracy, seen = (verdicts == labels).float().mean().item(), len(labels)
    text = f'{title}: top-1 {100 * accuracy:.1f} % of {seen} images'
    same = len(verdicts.unique()) == 1 < len(labels.unique())
    least = guess + LEAST * (1 - guess)
    if seen >= FEW and (same or accuracy < least):
        agreed = _renumbered(verdicts, labels)
        if agreed > guess + SORTED * (1 - guess):
            return Finding(
                BAD, 'teacher',
                f'{text}, but it sorts {100 * agreed:.0f} % of '
                'them alike under other numbers: its classes have another '
                'order than those of the data set. Give `classes`, or the '
                'numbers of the annotations, the order of its training')
        return Finding(
            BAD, 'teacher', f'{text}, close to chance level: its weights, its '
            f'normalization ({key}.data_preprocessor), the size of its images '
            '(model.teacher_input) or the order of the classes differ from '
            'those of its training. Set model.teacher_ckpt to a teacher of '
            'this data set')
    if accuracy - least < 2 * (least * (1 - least) / seen)**0.5:
        return Finding(
            WARN, 'teacher', f'{text}: too few images to tell it from chance '
            f'level, {100 * guess:.1f} %')
    return Finding(GOOD, 'teacher', text)


def _renumbered(verdicts: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images that a teacher gets right if its classes are renamed.

    0 with few images per class, which any teacher would sort alike.
    """
    pairs, counts = torch.stack([labels, verdicts]).unique(
        dim=1, return_counts=True)
    names: dict = {}
    for place in counts.argsort(descending=True):
        label, verdict = pairs[:, place].tolist()
        if label not in names and verdict not in names.values():
            names[label] = verdict
    if len(labels) < 3 * len(names):
        return 0.
    right = [names.get(label) for label in labels.tolist()]
    return sum(
        map(int.__eq__, verdicts.tolist(),
            [-1 if one is None else one for one in right])) / len(right)
