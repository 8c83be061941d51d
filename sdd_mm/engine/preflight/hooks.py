# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a hook does hours later, tried before the run."""
from functools import reduce
from typing import Dict

import torch
from mmengine.hooks import Hook
from mmpretrain.engine.hooks import SwitchRecipeHook
from torch import nn

from ...runtime.utils import num_classes
from ..errors import PreflightError
from .building import says

# hooks of MMPretrain that belong to one kind of model, and what it has
NEEDS = dict(
    DenseCLHook='loss_lambda',
    SwAVHook='head.loss_module.use_queue',
    SetAdaptiveMarginsHook='head.set_margins',
    PrepareProtoBeforeValLoopHook='prepare_prototype')


def check_hooks(hooks: Dict[str, Hook], model: nn.Module) -> None:
    """Refuse hooks that would fail in the middle of a run.

    Args:
        hooks (dict[str, Hook]): Built hooks by their config keys.
        model (nn.Module): The model.

    Raises:
        PreflightError: If a hook needs another model, or switches to
            something that this model cannot train with.
    """
    for key, hook in hooks.items():
        name = type(hook).__name__
        if name in NEEDS and not _has(model, NEEDS[name]):
            raise PreflightError(
                f'{key}: {name} needs a model with {NEEDS[name]}, which '
                f'{type(model).__name__} does not have: leave the hook out')
        if isinstance(hook, SwitchRecipeHook):
            for epoch, recipe in hook.schedule.items():
                _check_recipe(f'{key}: the recipe of action_epoch={epoch}',
                              recipe, model)


def _check_recipe(where: str, recipe: dict, model: nn.Module) -> None:
    """A recipe's mixing and its loss, on labels as training has them."""
    soft = getattr(model.data_preprocessor, 'to_onehot', False)
    if recipe.get('batch_augments') is not None and not soft:
        raise PreflightError(
            f'{where} mixes images, which has no effect on labels that are '
            'integers: set data_preprocessor.to_onehot=True')
    classes = num_classes(model)
    if 'loss' not in recipe or classes is None:
        return
    if not _has(model, 'loss_module') and not _has(model, 'head.loss_module'):
        raise PreflightError(
            f'{where} has a loss, and the head of {type(model).__name__} has '
            'no loss_module to replace: leave the loss out')
    target = torch.arange(2) % classes
    if soft:
        target = nn.functional.one_hot(target, classes).float()
    try:
        recipe['loss'](torch.zeros(2, classes), target, avg_factor=2)
    except Exception as error:  # a loss may raise anything
        kind = 'scores (soft labels)' if soft else 'integers'
        raise PreflightError(
            f'{where} has the loss {type(recipe["loss"]).__name__}, which '
            f'fails on labels that are {kind} of {classes} classes '
            f'({says(error)}): change the loss') from error


def _has(model: nn.Module, dotted: str) -> bool:
    """Whether a model has an attribute of an attribute."""
    missing = object()
    return reduce(lambda part, name: getattr(part, name, missing),
                  dotted.split('.'), model) is not missing
