# Copyright (c) sdd_mm contributors. All rights reserved.
"""Shapes of the features that losses and connectors are built for.

A forward pass of copies of both networks, in eval mode, finds them, so that a
config need not name them and neither network changes.
"""
from copy import deepcopy
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple, Union

import torch
from mmpretrain.structures import DataSample
from mmrazor.models.task_modules.recorder import RecorderManager
from mmrazor.registry import MODELS
from torch import nn

from ...errors import SDDError
from ..networks import is_recognizer
from ..recorders.modes import eval_mode

ROLES = ('student', 'teacher')
CHANNELS = tuple(f'{role}_channels' for role in ROLES)
SHAPES = tuple(f'{role}_shape' for role in ROLES)
Size = Union[int, Tuple[int, int], None]


class DryRunError(SDDError, ValueError):
    """Shapes that a config leaves open, and that cannot be found."""


class Open(NamedTuple):
    """A config that leaves shapes open.

    Args:
        key (str): Where it stands, for messages.
        config (dict): The config of a loss or a connector.
        names (tuple[str]): The arguments for student and teacher.
        mapping (dict): What the loss is called with.
    """
    key: str
    config: dict
    names: Tuple[str, ...]
    mapping: Dict[str, dict]


def open_shapes(distiller: dict) -> Iterator[Open]:
    """Losses and connectors of a distiller without the shapes that they need.

    Args:
        distiller (dict): Config of a distiller. What is filled in below stays
            in it.
    """
    mappings = distiller.get('loss_forward_mappings') or {}
    connectors = distiller.get('connectors') or {}
    for name, loss in (distiller.get('distill_losses') or {}).items():
        mapping = mappings.get(name, {})
        places = [(f'distill_losses.{name}', loss, CHANNELS)]
        places += [(f'connectors.{place["connector"]}',
                    connectors[place['connector']], SHAPES)
                   for place in mapping.values()
                   if place.get('connector') in connectors]
        for key, config, names in places:
            if _takes(config, names) and not set(names) <= set(config):
                yield Open(f'model.distiller.{key}', config, names, mapping)


def fill_shapes(distiller: dict,
                student: nn.Module,
                teacher: nn.Module,
                image_size: Size,
                teacher_size: Optional[Tuple[int, int]] = None) -> None:
    """Fill in the shapes that a distiller's config leaves open.

    ``student_channels`` and ``teacher_channels`` are the channels of what the
    loss gets as ``student`` and ``teacher``: a number, or one for each map.
    ``student_shape`` and ``teacher_shape`` of a connector are (C, H, W).

    Args:
        distiller (dict): Config of a distiller, changed in place.
        student (nn.Module): The student, which stays as it is.
        teacher (nn.Module): The teacher, which stays as it is.
        image_size (int | tuple[int, int], optional): Height and width of the
            training images.
        teacher_size (tuple[int, int], optional): Those of the teacher's, if
            it sees them at another size. Defaults to None.

    Raises:
        DryRunError: If there is no ``image_size``, or a mapping has no such
            record.
    """
    needed = list(open_shapes(distiller))
    if not needed:
        return
    if is_recognizer(student) or is_recognizer(teacher):
        key, _, names, _ = needed[0]
        raise DryRunError(
            f'{key} has no {" and ".join(names)}, which are found for images '
            'only: set them yourself for a recognizer')
    if image_size is None:
        key, _, names, _ = needed[0]
        raise DryRunError(
            f'{key} has no {" and ".join(names)}: set model.image_size to the '
            'height of the training images, such as 224, to find them, or set '
            'them yourself')
    size = (image_size, ) * 2 if isinstance(image_size, int) else image_size
    networks = dict(zip(ROLES, (student, teacher)))
    sizes = dict(zip(ROLES, (size, teacher_size or size)))
    records = {
        role:
        _records(networks[role],
                 distiller.get(f'{role}_recorders') or {}, {
                     place.mapping[role]['recorder']
                     for place in needed if role in place.mapping
                 }, sizes[role])
        for role in ROLES
    }
    for key, config, names, mapping in needed:
        for role, name in zip(ROLES, names):
            found = _find(key, role, mapping, records[role])
            config[name] = (
                tuple(found.shape[1:])
                if names == SHAPES else _channels(found))


def _takes(config: dict, names: tuple) -> bool:
    """Whether what is built takes these arguments."""
    kind = config.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    code = getattr(getattr(kind, '__init__', None), '__code__', None)
    return code is not None and set(names) <= set(code.co_varnames)


@torch.no_grad()
def _records(network: nn.Module, recorders: dict, names: set,
             size: Tuple[int, int]) -> Optional[RecorderManager]:
    """What some recorders record of a copy of a network."""
    network = deepcopy(network)
    for module in network.modules():  # as MMRazor does to the teacher
        if getattr(module, 'inplace', False):
            module.inplace = False
    channels = next(
        (module.in_channels
         for module in network.modules() if isinstance(module, nn.Conv2d)), 3)
    chosen = {name: recorders[name] for name in names if name in recorders}
    manager = RecorderManager(chosen)
    manager.initialize(network)
    sample = DataSample().set_gt_label(0)
    with eval_mode(network), manager:
        network(
            torch.zeros(2, channels, *size), [sample, sample], mode='tensor')
    return manager


def _find(key: str, role: str, mapping: dict, manager: RecorderManager) -> Any:
    place = dict(mapping.get(role, {}))
    name = place.pop('recorder', None)
    if name not in manager.recorders:
        raise DryRunError(
            f'{key} needs the shapes of a recorder {name!r} of the {role}, '
            f'which model.distiller.{role}_recorders does not have')
    place = {k: place[k] for k in ('record_idx', 'data_idx') if k in place}
    return manager.get_recorder(name).get_record_data(**place)


def _channels(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        return found.shape[1]
    return tuple(feature.shape[1] for feature in found)
