# Copyright (c) sdd_mm contributors. All rights reserved.
"""Where the maps of a network's stages are, as distillation papers take them.

Each function returns the places of one family of backbones, from the
shallowest stage to the deepest. The stem is no stage.
"""
from typing import Callable, Dict, List, NamedTuple

from mmpretrain.models.backbones import ResNet, ShuffleNetV2
from mmrazor.models.architectures.backbones import WideResNet
from torch import nn

from ...errors import SDDError
from ..backbones import (CIFARVGG, CIFARMobileNetV2, CIFARShuffleNetV1,
                         MobileNetV1)


class StageError(SDDError, ValueError):
    """The maps of the stages cannot be recorded."""


class Place(NamedTuple):
    """A module whose output or, before an activation, input is a map.

    Args:
        name (str): Name of the module.
        before (bool): Whether the map is the module's input. Defaults to
            False.
    """
    name: str
    before: bool = False


def resnet(backbone: nn.Module, preact: bool) -> List[Place]:
    """After the last block; before, the sum that its last ReLU gets."""
    names = backbone.res_layers
    if not preact:
        return [Place(name) for name in names]
    blocks = [len(getattr(backbone, name)) - 1 for name in names]
    return [
        Place(f'{name}.{block}.relu', True)
        for name, block in zip(names, blocks)
    ]


def wide_resnet(backbone: nn.Module, preact: bool) -> List[Place]:
    """The sum of the last block; before, what the next ReLU gets of it."""
    names = backbone.res_layers
    if not preact:
        return [Place(name) for name in names]
    return [
        *(Place(f'{name}.0.relu1', True) for name in names[1:]),
        Place('relu', True)
    ]


def vgg(backbone: nn.Module, preact: bool) -> List[Place]:
    """The last ReLU, before the pooling; the first stage is the stem."""
    places = []
    for index, stage in list(enumerate(backbone.stages))[1:]:
        last = max(i for i, layer in enumerate(stage)
                   if isinstance(layer, nn.ReLU))
        places.append(Place(f'stages.{index}.{last}', preact))
    return places


def mobilenet_v1(backbone: nn.Module, preact: bool) -> List[Place]:
    """The last layers of 128, 256, 512 and 1024 channels."""
    end = '.pointwise_conv.activate' if preact else ''
    return [Place(f'layers.{layer}{end}', preact) for layer in (3, 5, 11, 13)]


def mobilenet_v2(backbone: nn.Module, preact: bool) -> List[Place]:
    """The bottlenecks where the width or the size changes."""
    return [Place(f'stages.{stage}') for stage in (1, 2, 4, 6)]


def shufflenet_v1(backbone: nn.Module, preact: bool) -> List[Place]:
    """Every stage."""
    return [Place(f'stages.{stage}') for stage in range(3)]


def shufflenet_v2(backbone: nn.Module, preact: bool) -> List[Place]:
    """Every stage, without the last convolution."""
    return [Place(f'layers.{stage}') for stage in range(3)]


FAMILIES: Dict[type, Callable] = {
    ResNet: resnet,
    WideResNet: wide_resnet,
    CIFARVGG: vgg,
    MobileNetV1: mobilenet_v1,
    CIFARMobileNetV2: mobilenet_v2,
    CIFARShuffleNetV1: shufflenet_v1,
    ShuffleNetV2: shufflenet_v2,
}
WITHOUT_PREACT = (mobilenet_v2, shufflenet_v1, shufflenet_v2)


def find_stages(model: nn.Module, preact: bool = False) -> List[Place]:
    """The places of a model's stages.

    Args:
        model (nn.Module): A classifier with a ``backbone``.
        preact (bool): Whether the maps are those before the last activation
            of each stage. Defaults to False.

    Returns:
        list[Place]: From the shallowest stage to the deepest.

    Raises:
        StageError: If the family is unknown, or has no such maps.
    """
    backbone = getattr(model, 'backbone', None)
    find = next((function for family, function in FAMILIES.items()
                 if isinstance(backbone, family)), None)
    title = type(backbone if backbone is not None else model).__name__
    if find is None:
        known = ', '.join(family.__name__ for family in FAMILIES)
        raise StageError(
            f'the stages of {title} are not known, only those of {known}: '
            "name the modules whose outputs are the maps, such as sources="
            "['backbone.layer1', 'backbone.layer2']")
    if preact and find in WITHOUT_PREACT:
        raise StageError(
            f'{title} has no activation module at the end of its stages, so '
            'preact=True has nothing to record: leave it out')
    return [
        Place(f'backbone.{name}', before)
        for name, before in find(backbone, preact)
    ]
