# Copyright (c) sdd_mm contributors. All rights reserved.
"""The rule that finds a feature map and a tail that is not linear."""
from typing import List, Optional, Sequence

import torch
from mmpretrain.models.necks import (GeneralizedMeanPooling,
                                     GlobalAveragePooling, LinearNeck)
from torch import Tensor, nn

from ..networks import is_recognizer
from .find_head import (FeatureHeadError, HeadModules, MapSource, by_name,
                        check_head, check_pooling, last_neck, name_of,
                        named_source, own_logits, refusal)
from .modes import eval_mode


class Tail:
    """Everything that a classifier does after pooling, in eval mode.

    Dropout is off, and batch norm uses its running statistics and does not
    update them, whatever the mode of the network.

    Args:
        head (nn.Module): The head, called with a tuple of features.
        steps (Sequence[nn.Module]): The layers between pooling and head.
            Defaults to ().
        power (GeneralizedMeanPooling, optional): The neck, if it takes a
            power mean instead of the average. Defaults to None.
        plain (bool): Whether the head is a layer, called with the features
            themselves. Defaults to False.
    """

    def __init__(self,
                 head: nn.Module,
                 steps: Sequence[nn.Module] = (),
                 power: Optional[GeneralizedMeanPooling] = None,
                 plain: bool = False) -> None:
        self.head = head
        self.steps = tuple(steps)
        self.power = power
        self.plain = plain

    def prepare(self, feature: Tensor) -> Tensor:
        """What cells average: the map, or a power of it."""
        if self.power is None:
            return feature
        feature = feature if feature.dtype == torch.float64 else (
            feature.float())
        if self.power.clamp:
            feature = feature.clamp(min=self.power.eps)
        return feature.pow(self.power.p)

    def __call__(self, rows: Tensor) -> Tensor:
        """Logits (R, K) of pooled features (R, C)."""
        weight = next(self.head.parameters())
        rows = rows.to(weight.dtype)
        with eval_mode(self.head, *self.steps):
            if self.power is not None:
                rows = rows.pow(1. / self.power.p)
            for step in self.steps:
                rows = _apply(step, rows)
            return self.head(rows if self.plain else (rows, ))

    def __str__(self) -> str:
        names = [type(step).__name__ for step in (*self.steps, self.head)]
        return ', '.join(names)


def _apply(step: nn.Module, rows: Tensor) -> Tensor:
    """Apply a layer for maps to pooled features, as 1 x 1 maps."""
    if getattr(step, 'data_format',
               None) == 'channels_first' or type(step).__name__.endswith('2d'):
        return step(rows[:, :, None, None]).flatten(1)
    return step(rows)


def find_region_head(model: nn.Module,
                     pooling: Optional[str] = None,
                     feature: Optional[str] = None,
                     tokens: bool = False,
                     tail: Optional[Sequence[str]] = None) -> HeadModules:
    """Find the feature map of a model and the tail behind its pooling.

    The pooling may be a ``GlobalAveragePooling``, ``GeneralizedMeanPooling``
    or ``LinearNeck`` neck, or that of a backbone with
    ``gap_before_final_norm``; the tail is what follows, with the whole head.

    Args:
        model (nn.Module): An MMPretrain classifier.
        pooling (str, optional): Name of the module whose input is the feature
            map; the tail is then the head. Defaults to None, which finds it.
        feature (str, optional): Name of the module whose output is the
            feature map; the tail is then the head. Defaults to None.
        tokens (bool): Whether the map comes as tokens. Defaults to False.
        tail (Sequence[str], optional): Names of the modules of the tail, in
            their order. Defaults to None, the head.

    Returns:
        HeadModules: The modules.

    Raises:
        FeatureHeadError: If nothing is pooled over a map, or a name is not in
            the model.
    """
    head = check_head(model)
    if is_recognizer(model):
        raise refusal(
            model, 'a RegionHead applies the head of an MMPretrain '
            'classifier, not a cls_head, to cells')
    source = named_source(model, pooling, feature)
    if tail:
        if source is None:
            raise FeatureHeadError(
                f'a recorder of {type(model).__name__} names the `tail`, but '
                'not what is pooled: name pooling, whose input is the feature '
                'map, or feature, whose output is')
        named = (by_name(model, name, 'tail') for name in tail)
        *steps, last = (layer for one in named for layer in _layers(one))
        return _modules(model, source, Tail(last, steps, plain=True))
    if next(head.parameters(), None) is None:
        raise refusal(
            model, 'its head has no weights, so what follows the pooling is '
            'inside the backbone. Name it: tail, with the modules after the '
            'pooling, and pooling or feature of the recorder',
            advice=False)
    if source is not None:
        return _modules(model, source, Tail(head))
    neck = last_neck(model)
    if neck is None:
        return _of_backbone(model, head)
    if isinstance(neck, GeneralizedMeanPooling):
        source = MapSource(name_of(model, neck), neck)
        return _modules(model, source, Tail(head, power=neck))
    steps: List[nn.Module] = []
    if isinstance(neck, LinearNeck):
        steps = [neck.fc, neck.norm, neck.act]
    elif not isinstance(neck, GlobalAveragePooling):
        raise refusal(model, f'neck {type(neck).__name__} is not a pooling')
    check_pooling(model, neck, tokens)
    source = MapSource(name_of(model, neck.gap), neck.gap)
    return _modules(model, source, Tail(head, steps))


def _layers(module: nn.Module) -> List[nn.Module]:
    """The layers of a sequence, or the module itself."""
    if type(module).forward is nn.Sequential.forward:
        return [layer for one in module for layer in _layers(one)]
    return [module]


def _modules(model: nn.Module, source: MapSource, tail: Tail) -> HeadModules:
    return HeadModules(source, tail, f'tail ({tail})',
                       own_logits(model, tail.head), tail.head)


def _of_backbone(model: nn.Module, head: nn.Module) -> HeadModules:
    """A backbone that averages its last map and normalizes the average."""
    backbone = getattr(model, 'backbone', None)
    title = f'backbone {type(backbone).__name__}'
    if not getattr(backbone, 'gap_before_final_norm', False):
        raise refusal(
            model, f'it has no `neck`, and {title} does not average a map '
            '(gap_before_final_norm)')
    stages = backbone.stages
    last = max(index % len(stages) for index in backbone.out_indices)
    if last != len(stages) - 1:
        raise refusal(
            model, f'{title} returns stage {last} of {len(stages)} '
            '(backbone.out_indices), not its last map')
    norm = getattr(backbone, f'norm{last}', None)
    if norm is None:
        raise refusal(model, f'{title} has no norm{last} after its last map')
    stage = stages[last]
    # TinyViT's stages return tokens and know their grid
    grid = getattr(stage, 'resolution', None)
    source = MapSource(name_of(model, stage), stage, True, grid)
    return _modules(model, source, Tail(head, [norm]))


def region_advice(model: nn.Module, tokens: bool) -> str:
    """What to add to a refusal if the region mode would work."""
    try:
        find_region_head(model, tokens=tokens)
    except FeatureHeadError:
        return ''
    return ('. To apply its whole tail to every cell instead, which is not '
            'the paper\'s SDD, set the recorder to dict(type=\'RegionHead\')')
