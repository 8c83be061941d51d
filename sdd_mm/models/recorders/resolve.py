# Copyright (c) sdd_mm contributors. All rights reserved.
"""Where a classifier keeps its last feature map and its linear head."""
from difflib import get_close_matches
from typing import NamedTuple, Optional

from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.models.necks import GlobalAveragePooling
from torch import nn


class FeatureHeadError(ValueError):
    """A model whose local logits cannot be right, and why."""


class FeatureHeadModules(NamedTuple):
    """The modules that a feature head is recorded from.

    Args:
        pooling_name (str): Name of the global pooling in the model.
        pooling (nn.Module): The global pooling; its input is the map.
        linear_name (str): Name of the linear classifier in the model.
        linear (nn.Linear): The linear classifier.
        logits (nn.Module): The module that returns the model's own logits.
    """
    pooling_name: str
    pooling: nn.Module
    linear_name: str
    linear: nn.Linear
    logits: nn.Module


def find_feature_head(model: nn.Module,
                      pooling: Optional[str] = None,
                      head: Optional[str] = None) -> FeatureHeadModules:
    """Find the global pooling and the linear classifier of a model.

    Local logits are right only where nothing but an average pooling and a
    linear layer stands between the feature map and the logits.

    Args:
        model (nn.Module): An MMPretrain classifier, or any model if both
            names are given.
        pooling (str, optional): Name of the module whose input is the feature
            map. Defaults to None, which finds it.
        head (str, optional): Name of the linear classifier. Defaults to None,
            which finds it.

    Returns:
        FeatureHeadModules: The modules and their names.

    Raises:
        FeatureHeadError: If the model is not linear after pooling, or a name
            is not in it.
    """
    if head is None:
        linear = _find_linear(model)
        head = _name_of(model, linear)
    else:
        linear = _by_name(model, head, 'head')
        _check_linear(model, head, linear)
    if pooling is None:
        pooling_module = _find_pooling(model)
        pooling = _name_of(model, pooling_module)
    else:
        pooling_module = _by_name(model, pooling, 'pooling')
    whole_head = getattr(model, 'head', None)
    inside = whole_head is not None and any(module is linear
                                            for module in whole_head.modules())
    return FeatureHeadModules(pooling, pooling_module, head, linear,
                              whole_head if inside else linear)


def _find_linear(model: nn.Module) -> nn.Linear:
    head = getattr(model, 'head', None)
    if head is None:
        raise _refusal(model, 'has no `head` module')
    title = f'head {type(head).__name__}'
    if isinstance(head, MultiLabelClsHead):
        raise _refusal(
            model, f'{title} is multi-label, SDD distills one '
            'softmax over the classes')
    loss = getattr(head, 'loss_module', None)
    aside = set(loss.modules()) if isinstance(loss, nn.Module) else set()
    layers = [(name, module) for name, module in head.named_modules()
              if module not in aside and not list(module.children())
              and not isinstance(module, nn.Identity) and module is not head]
    linears = [(name, layer) for name, layer in layers
               if isinstance(layer, nn.Linear)]
    if not linears:
        raise _refusal(
            model, f'{title} holds no linear layer: the classifier is inside '
            f'the backbone {type(getattr(model, "backbone", None)).__name__}, '
            'or it is not one linear layer. Give the backbone '
            '`num_classes=-1` if it has that key, a GlobalAveragePooling neck '
            'and a LinearClsHead')
    for name, layer in linears:
        _check_linear(model, f'head.{name}', layer)
    if len(layers) > 1:
        found = ', '.join(f'head.{name} ({type(layer).__name__})'
                          for name, layer in layers)
        raise _refusal(
            model, f'{title} is more than one linear layer: {found}. What '
            'follows the pooling is not linear, so a cell has no logits')
    return linears[0][1]


def _check_linear(model: nn.Module, name: str, layer: nn.Module) -> None:
    # a subclass may compute anything: ArcFace's NormProduct does
    if type(layer) is not nn.Linear:
        raise _refusal(
            model, f'{name} is a {type(layer).__name__}, not a plain '
            'torch.nn.Linear, so it need not be linear')


def _find_pooling(model: nn.Module) -> nn.Module:
    neck = getattr(model, 'neck', None)
    if neck is None:
        raise _refusal(model, _why_no_neck(getattr(model, 'backbone', None)))
    last = neck
    while isinstance(last, (nn.Sequential, nn.ModuleList)) and len(last):
        last = last[-1]
    if not isinstance(last, GlobalAveragePooling):
        raise _refusal(
            model, f'neck {type(last).__name__} is not a '
            'GlobalAveragePooling: cells are averages, and the neck does '
            'something else before the head')
    if not isinstance(last.gap, nn.AdaptiveAvgPool2d):
        raise _refusal(
            model, f'neck GlobalAveragePooling holds a '
            f'{type(last.gap).__name__}: the map before it is not (B, C, h, '
            'w)')
    return last.gap


def _why_no_neck(backbone: Optional[nn.Module]) -> str:
    name = type(backbone).__name__
    if getattr(backbone, 'gap_before_final_norm', False):
        return (f'backbone {name} pools by itself and normalises after '
                'pooling (gap_before_final_norm=True), which is not linear')
    if getattr(backbone, 'out_type', None) == 'cls_token':
        return (f'backbone {name} classifies a class token '
                "(out_type='cls_token'): no feature map is pooled")
    return (f'it has no `neck`: backbone {name} hands over what is already '
            'pooled, or nothing is')


def _by_name(model: nn.Module, name: str, key: str) -> nn.Module:
    modules = dict(model.named_modules(remove_duplicate=False))
    if name in modules:
        return modules[name]
    near = get_close_matches(name, modules, n=3, cutoff=0.3)
    raise FeatureHeadError(
        f'{type(model).__name__} has no module {name!r} (the `{key}` of its '
        f'FeatureHead recorder). Nearest names: {", ".join(near) or "none"}')


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, other in model.named_modules()
                if other is module)


def _refusal(model: nn.Module, reason: str) -> FeatureHeadError:
    return FeatureHeadError(
        f'no local logits for this {type(model).__name__}: {reason}. If you '
        'know better, name the module before the linear classifier and the '
        'classifier itself: dict(type=\'FeatureHead\', pooling=\'neck.gap\', '
        'head=\'head.fc\')')
