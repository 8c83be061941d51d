# Copyright (c) sdd_mm contributors. All rights reserved.
"""Whether distillation losses can use the features and the training data."""
import logging
from contextlib import ExitStack, contextmanager, suppress
from typing import Dict, Iterator, List, Tuple

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn
from torch.utils.data import DataLoader

from ...models.algorithms import FrozenTeacherDistill
from ...models.networks import logits_of
from ...models.recorders.feature_head_recorder import MapReached
from ...models.recorders.modes import eval_mode
from ...structures import student_part
from ..errors import PreflightError
from ..hooks import TrainingLabelsHook

PREFIX = 'model.distiller'
MANY = 100_000_000  # parameters of one loss


def check_distilling(model: FrozenTeacherDistill, loader: DataLoader,
                     hooks: List[Hook]) -> None:
    """Try the losses over features on two training images.

    Args:
        model (FrozenTeacherDistill): The model. It stays as it is, only that
            its losses are told the labels of the training set.
        loader (DataLoader): The training dataloader.
        hooks (list[Hook]): The hooks of the run.

    Raises:
        PreflightError: If a loss cannot use the features that it gets, the
            batches, or the data set.
    """
    _warn_of_size(model)
    losses = {
        name: loss
        for name, loss in model.distiller.distill_losses.items()
        if hasattr(loss, 'check_features')
    }
    if not losses:
        return
    _tell_labels(model, losses, loader, hooks)
    for name, loss in losses.items():
        with _named(f'{PREFIX}.distill_losses.{name}'):
            loss.check_loader(loader)
    with torch.no_grad(), eval_mode(model), torch.compiler.set_stance(
            'force_eager'):
        _check_features(model, losses, loader)


def learned_parts(model: nn.Module) -> Iterator[Tuple[str, nn.Module, int]]:
    """Losses and connectors that learn beside the student.

    Args:
        model (nn.Module): Any model.

    Yields:
        tuple[str, nn.Module, int]: Key in the distiller, the module, and the
        number of its parameters that learn.
    """
    distiller = getattr(model, 'distiller', None)
    for group in ('distill_losses', 'connectors'):
        for name, part in getattr(distiller, group, {}).items():
            if learning(part):
                yield f'{group}.{name}', part, learning(part)


def learning(module: nn.Module) -> int:
    """The number of parameters that learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _warn_of_size(model: FrozenTeacherDistill) -> None:
    """Say what a loss that learns more than any student will take."""
    for key, part, count in learned_parts(model):
        if count > MANY:
            print_log(
                f'{PREFIX}.{key} ({type(part).__name__}) learns '
                f'{count / 1e6:.0f} million parameters to distill into a '
                f'student of {learning(model.student) / 1e6:.1f} million. '
                'With gradients and one momentum they take '
                f'{count * 12 / 2**30:.1f} GiB of memory, and two thirds of '
                'that in every checkpoint',
                logger='current',
                level=logging.WARNING)


def _tell_labels(model: FrozenTeacherDistill, losses: Dict[str, nn.Module],
                 loader: DataLoader, hooks: List[Hook]) -> None:
    telling = [hook for hook in hooks if isinstance(hook, TrainingLabelsHook)]
    key = 'custom_hooks'
    for name, loss in losses.items():
        if hasattr(loss, 'set_labels'):
            key = f'{PREFIX}.distill_losses.{name}'
            if not telling:
                raise PreflightError(
                    f'{key} ({type(loss).__name__}) needs the labels of the '
                    "training set: add dict(type='TrainingLabelsHook') to "
                    'custom_hooks')
    for hook in telling:
        with _named(key):
            hook.tell(model, loader.dataset)


def _check_features(model: FrozenTeacherDistill, losses: Dict[str, nn.Module],
                    loader: DataLoader) -> None:
    """Record two images, and let every loss look at its records."""
    distiller = model.distiller
    mappings = {name: distiller.loss_forward_mappings[name] for name in losses}
    samples = [loader.dataset[index] for index in (0, len(loader.dataset) - 1)]
    batch = model.data_preprocessor(loader.collate_fn(samples), False)
    try:
        for role, network in (('student', model.student), ('teacher',
                                                           model.teacher)):
            manager = getattr(distiller, f'{role}_recorders')
            used = _recorders(mappings, role == 'student')
            with _named(f'{PREFIX}.{role}_recorders'), ExitStack() as stack:
                for name in used:
                    stack.enter_context(manager.get_recorder(name))
                inputs = (
                    model.teacher_images(batch['inputs'])
                    if role == 'teacher' else student_part(batch['inputs']))
                with suppress(MapReached):
                    logits_of(network, inputs, batch['data_samples'])
        for name, loss in losses.items():
            with _named(f'{PREFIX}.distill_losses.{name}'):
                loss.check_features(
                    **{
                        key: distiller.get_record(**place)
                        for key, place in mappings[name].items()
                    })
    finally:
        distiller.reset_records()


def _recorders(mappings: Dict[str, dict], from_student: bool) -> List[str]:
    """Names of the recorders of one side that the mappings read."""
    return sorted({
        place['recorder']
        for mapping in mappings.values()
        for place in mapping.values() if place['from_student'] is from_student
    })


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Name the config key of what raises a ValueError or RuntimeError."""
    try:
        yield
    except PreflightError:
        raise
    except (ValueError, RuntimeError) as error:
        raise PreflightError(f'{key}: {error}') from error
