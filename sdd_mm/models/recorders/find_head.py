# Copyright (c) sdd_mm contributors. All rights reserved.
"""The rule that finds a feature map and the linear classifier behind it."""
from difflib import get_close_matches
from typing import NamedTuple, Optional, Tuple, Union

from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier
from mmpretrain.models.heads import (ArcFaceClsHead, MultiLabelClsHead,
                                     MultiLabelLinearClsHead)
from mmpretrain.models.necks import GlobalAveragePooling
from torch import nn

from ...errors import SDDError
from ..networks import (head_name, head_of, is_recognizer, network_name,
                        plain_module)


class FeatureHeadError(SDDError, ValueError):
    """The local logits of a model would be wrong."""


class MapSource(NamedTuple):
    """Where the feature map before global pooling is heard.

    Args:
        name (str): Name of a module in the model.
        module (nn.Module): The module.
        after (bool): Whether the map is the module's output; else it is its
            input. Defaults to False.
        token_grid (tuple[int, int], optional): The module's own grid of
            tokens. Defaults to None.
    """
    name: str
    module: nn.Module
    after: bool = False
    token_grid: Optional[Tuple[int, int]] = None

    def __str__(self) -> str:
        return f'{"output" if self.after else "input"} of {self.name}'


class HeadModules(NamedTuple):
    """What a record is made of.

    Args:
        source (MapSource): Where the map is heard.
        classifier (nn.Linear | Tail): What classifies a cell.
        title (str): The classifier, for a message.
        logits (nn.Module): The module that returns the model's own logits.
        layers (nn.Module): What has random weights when both are compared.
    """
    source: MapSource
    classifier: Union[nn.Linear, 'Tail']  # noqa: F821
    title: str
    logits: nn.Module
    layers: nn.Module


def find_feature_head(model: nn.Module,
                      pooling: Optional[str] = None,
                      head: Optional[str] = None,
                      feature: Optional[str] = None,
                      tokens: bool = False) -> HeadModules:
    """Find the feature map and the linear classifier of a model.

    Local logits are right only if an average pooling and a linear layer are
    all that stands between the feature map and the logits.

    Args:
        model (nn.Module): An MMPretrain classifier, or any model if the
            modules are named.
        pooling (str, optional): Name of the module whose input is the feature
            map. Defaults to None, which finds it.
        head (str, optional): Name of the linear classifier. Defaults to None,
            which finds it.
        feature (str, optional): Name of the module whose output is the
            feature map, if the pooling is not a module. Defaults to None.
        tokens (bool): Whether the map may come as tokens. Defaults to False.

    Returns:
        HeadModules: The modules.

    Raises:
        FeatureHeadError: If the model is not linear after pooling, or a name
            is not in it.
    """
    if head is None:
        linear = _find_linear(model)
        head = name_of(model, linear)
    else:
        linear = by_name(model, head, 'head')
        _check_linear(model, head, linear)
        if head_of(model) is not None:
            check_head(model)
    source = named_source(model, pooling, feature)
    if source is None:
        gap = _find_pooling(model, tokens)
        source = MapSource(name_of(model, gap), gap)
    whole_head = head_of(model)
    inside = whole_head is not None and any(module is linear
                                            for module in whole_head.modules())
    return HeadModules(source, linear, head, own_logits(model, linear),
                       whole_head if inside else linear)


def own_logits(model: nn.Module, classifier: nn.Module) -> nn.Module:
    """The module that returns the logits that a model learns or answers by.

    A plain or wrapped module may change what its classifier returns.
    """
    if isinstance(model, (HuggingFaceClassifier, TimmClassifier)):
        return model.model
    head = head_of(model)
    return classifier if head is None else head


def named_source(model: nn.Module, pooling: Optional[str],
                 feature: Optional[str]) -> Optional[MapSource]:
    """The source of the map that a config names, if it names one."""
    if pooling is not None and feature is not None:
        raise FeatureHeadError(
            f'a recorder of {type(model).__name__} names both '
            f'pooling={pooling!r}, whose input would be the feature map, and '
            f'feature={feature!r}, whose output would be: name one')
    if feature is not None:
        return MapSource(feature, by_name(model, feature, 'feature'), True)
    if pooling is not None:
        return MapSource(pooling, by_name(model, pooling, 'pooling'))
    return None


def check_head(model: nn.Module) -> nn.Module:
    """The head of a model, if it classifies one label per image."""
    head = head_of(model)
    if head is None:
        raise refusal(model, f'it has no `{head_name(model)}` module')
    title = f'head {type(head).__name__}'
    # MMPretrain's Mixup configs train one softmax with a multi-label head
    soft = isinstance(head, MultiLabelLinearClsHead) and getattr(
        head.loss_module, 'use_soft', False)
    several = getattr(head, 'multi_class', False)  # a recognizer's
    if isinstance(head, MultiLabelClsHead) and not soft or several:
        raise refusal(
            model,
            f'{title} is multi-label, SDD distills one softmax over the '
            'classes',
            advice=False)
    if isinstance(head, ArcFaceClsHead):
        raise refusal(
            model, f'{title} ends in a NormProduct, not a plain '
            'torch.nn.Linear: its logits are cosines, with a margin in '
            'training',
            advice=False)
    return head


def _find_linear(model: nn.Module) -> nn.Linear:
    head = check_head(model)
    if is_recognizer(model):
        return _find_clip_linear(model, head)
    title = f'head {type(head).__name__}'
    loss = getattr(head, 'loss_module', None)
    aside = set(loss.modules()) if isinstance(loss, nn.Module) else set()
    layers = [(name, module) for name, module in head.named_modules()
              if module not in aside and not list(module.children())
              and not isinstance(module, nn.Identity) and module is not head]
    linears = [(name, layer) for name, layer in layers
               if isinstance(layer, nn.Linear)]
    if not linears and plain_module(model) is not None:
        raise FeatureHeadError(_what_to_name(model))
    if not linears:
        raise refusal(
            model, f'{title} has no linear layer: the classifier is inside '
            f'the backbone {type(getattr(model, "backbone", None)).__name__}, '
            'or it is not one linear layer. Set the backbone\'s '
            'num_classes=-1 if it has that key, and add a '
            'GlobalAveragePooling neck and a LinearClsHead')
    for name, layer in linears:
        _check_linear(model, f'head.{name}', layer)
    if len(layers) > 1:
        found = ', '.join(f'head.{name} ({type(layer).__name__})'
                          for name, layer in layers)
        raise refusal(
            model, f'{title} is more than one linear layer: {found}. The part '
            'after pooling is not linear, so a cell has no logits')
    return linears[0][1]


def _what_to_name(model: nn.Module) -> str:
    """The modules of a plain module that a recorder may name."""
    inside = [(name, module) for name, module in model.named_modules()
              if name.startswith('backbone.net')]
    poolings = [
        name for name, module in inside
        if isinstance(module, nn.AdaptiveAvgPool2d)
    ]
    layers = [name for name, module in inside if isinstance(module, nn.Linear)]
    return (
        f'the cells of {network_name(model)} need the names of its pooling '
        'and of its linear classifier: set the recorder to dict(type='
        f"'FeatureHead', pooling={_last(poolings, 'pool')!r}, "
        f"head={_last(layers, 'fc')!r})" +
        ('' if poolings else '; if it pools by a function, name feature '
         'instead of pooling: the module whose output is the map'))


def _last(names: list, default: str) -> str:
    return names[-1] if names else f'backbone.net.{default}'


def _check_linear(model: nn.Module, name: str, layer: nn.Module) -> None:
    # a subclass may compute anything
    if type(layer) is not nn.Linear:
        raise refusal(
            model, f'{name} is a {type(layer).__name__}, not a plain '
            'torch.nn.Linear, so it may not be linear')


def last_neck(model: nn.Module) -> Optional[nn.Module]:
    """The last of a model's necks, if it has one."""
    neck = getattr(model, 'neck', None)
    while isinstance(neck, (nn.Sequential, nn.ModuleList)) and len(neck):
        neck = neck[-1]
    return neck


def _find_clip_linear(model: nn.Module, head: nn.Module) -> nn.Linear:
    """The classifier of I3D, C2D and Swin3D, which share a head."""
    if type(head).__name__ != 'I3DHead':
        raise refusal(
            model, f'cls_head {type(head).__name__} is not an I3DHead, which '
            'classifies the average of one map')
    _check_linear(model, 'cls_head.fc_cls', head.fc_cls)
    return head.fc_cls


def _find_pooling(model: nn.Module, tokens: bool) -> nn.Module:
    if is_recognizer(model):
        pooling = getattr(head_of(model), 'avg_pool', None)
        if tokens or not isinstance(pooling, nn.AdaptiveAvgPool3d):
            raise refusal(
                model, 'its cls_head does not average a map (B, C, T, h, w): '
                "set cls_head.spatial_type='avg', and no token_grid")
        return pooling
    neck = last_neck(model)
    if neck is None:
        raise refusal(model, _why_no_neck(getattr(model, 'backbone', None)))
    if not isinstance(neck, GlobalAveragePooling):
        raise refusal(
            model, f'neck {type(neck).__name__} is not a '
            'GlobalAveragePooling: cells are averages, the neck computes '
            'something else')
    check_pooling(model, neck, tokens)
    return neck.gap


def check_pooling(model: nn.Module, neck: nn.Module, tokens: bool) -> None:
    """Refuse a neck whose input a recorder cannot lay out as a map."""
    wanted = nn.AdaptiveAvgPool1d if tokens else nn.AdaptiveAvgPool2d
    if isinstance(neck.gap, wanted):
        return
    found = f'neck {type(neck).__name__} holds a {type(neck.gap).__name__}'
    if tokens:
        raise refusal(
            model, f'{found}, which does not pool tokens: leave token_grid '
            'out')
    advice = ''
    if isinstance(neck.gap, nn.AdaptiveAvgPool1d):
        advice = ('. It pools tokens: give their grid, row by row, as '
                  'token_grid=(h, w) of the recorder')
    raise refusal(model,
                  f'{found}: the map before it is not (B, C, h, w){advice}')


def _why_no_neck(backbone: Optional[nn.Module]) -> str:
    name = type(backbone).__name__
    if getattr(backbone, 'gap_before_final_norm', False):
        return (f'backbone {name} pools by itself and normalizes after '
                'pooling (gap_before_final_norm=True), which is not linear')
    if getattr(backbone, 'out_type', None) == 'cls_token':
        return (f'backbone {name} classifies a class token '
                "(out_type='cls_token'): no feature map is pooled")
    return (f'it has no `neck`: backbone {name} returns pooled features, or '
            'nothing is pooled')


def by_name(model: nn.Module, name: str, key: str) -> nn.Module:
    """The module of that name, or the nearest names in an error."""
    if not isinstance(name, str):
        raise FeatureHeadError(f'the `{key}` of a recorder is the name of a '
                               f'module, got {name!r}')
    modules = dict(model.named_modules(remove_duplicate=False))
    if name in modules:
        return modules[name]
    near = get_close_matches(name, modules, n=3, cutoff=0.3)
    raise FeatureHeadError(
        f'{type(model).__name__} has no module {name!r} (the `{key}` of its '
        f'recorder). Nearest names: {", ".join(near) or "none"}')


def name_of(model: nn.Module, module: nn.Module) -> str:
    """The name of a module in a model."""
    return next(name for name, other in model.named_modules()
                if other is module)


def refusal(model: nn.Module,
            reason: str,
            advice: bool = True) -> FeatureHeadError:
    """An error that a model has no local logits, and what to name."""
    text = f'no local logits for this {type(model).__name__}: {reason}'
    if advice:
        text += ('. If it is linear all the same, name the module given the '
                 'feature map and the linear classifier, as in dict(type='
                 "'FeatureHead', pooling='backbone.avgpool', head="
                 "'backbone.fc')")
    return FeatureHeadError(text)
