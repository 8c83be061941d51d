# Copyright (c) sdd_mm contributors. All rights reserved.
"""timm's models with a norm or a layer between pooling and classifier.

Their tails are not linear, so cells are not the paper's: ``RegionHead``
applies the whole tail to every cell.
"""
from typing import Dict, List, Tuple

import torch
from torch import nn

from ..models.recorders.find_region import Tail
from .checkpoint import ConversionError
from .timm_classifier import (INSIDE, NEUTRAL, calls, classifier_of, create,
                              timm_logits_teacher)


def timm_region_teacher(model_name: str,
                        num_classes: int = 1000,
                        to_rgb: bool = True) -> Tuple[dict, dict]:
    """Config of a timm model that averages a map, and its recorder.

    Args:
        model_name (str): Its name in timm, such as ``convnext_tiny``.
        num_classes (int): Number of classes. Defaults to 1000.
        to_rgb (bool): As of
            :func:`~sdd_mm.converters.timm_classifier.timm_teacher`.

    Returns:
        tuple[dict, dict]: Config of a ``ModuleClassifier`` with its
        ``data_preprocessor``, and that of its ``RegionHead`` recorder.

    Raises:
        ConversionError: If it does not average a feature map, or if its
            logits are not those of the modules behind the average.

    Examples:
        >>> timm_region_teacher('convnext_tiny')[1]
        {'type': 'RegionHead', 'pooling': 'backbone.net.head.global_pool',
         'tail': ('backbone.net.head.norm', 'backbone.net.head.fc')}
    """
    model = create(model_name, num_classes).double().eval()
    pooling, tail = _parts(model)
    names = {module: name for name, module in model.named_modules()}
    recorder = dict(
        type='RegionHead',
        pooling=f'{INSIDE}.{names[pooling]}',
        tail=tuple(f'{INSIDE}.{names[module]}' for module in tail))
    return timm_logits_teacher(model_name, num_classes, to_rgb), recorder


@torch.no_grad()
def _parts(model: nn.Module) -> Tuple[nn.Module, List[nn.Module]]:
    """The pooling, and the modules that make logits of its output."""
    _, classifier = classifier_of(model)
    kept: Dict[nn.Module, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, inputs: kept.update({module: inputs[0]}))
        for module in model.modules()
    ]
    with torch.random.fork_rng(devices=[]):
        classifier.reset_parameters()  # zeros would hide a difference
        images = torch.rand(
            2, *model.default_cfg['input_size'], dtype=torch.float64)
        called, pools, own = calls(model, images)
    for hook in hooks:
        hook.remove()
    pooling = called[pools[-1]]
    feature = kept[pooling]
    if feature.ndim != 4 or feature.shape[2:] == (1, 1):
        raise ConversionError('its feature map has shape '
                              f'{tuple(feature.shape)}, so it has no cells')
    behind = [
        module for module in called[pools[-1] + 1:]
        if not isinstance(module, NEUTRAL)
    ]
    parts = {part for module in behind for part in module.children()}
    *steps, last = (module for module in behind if module not in parts)
    if last is not classifier:
        raise ConversionError(
            f'a {type(last).__name__} follows its classifier')
    try:
        found = Tail(last, steps, plain=True)(feature.mean((2, 3)))
    except RuntimeError as error:
        raise ConversionError(
            f'its feature map, {tuple(feature.shape)}, is not (B, C, h, w)'
        ) from error
    difference = (found - own).abs().max() / own.abs().max()
    if not difference < 1e-9:
        raise ConversionError(
            'the logits of its average feature differ from its own by '
            f'{difference:.3g} of the largest: something else lies between')
    return pooling, [*steps, last]
