# Copyright (c) sdd_mm contributors. All rights reserved.
"""Where the maps of a network's stages are, as distillation papers take them.

Each function returns the places of one family of backbones, from the
shallowest stage to the deepest. The stem is no stage.
"""
from typing import Callable, Dict, List, NamedTuple

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import (VGG, MobileNetV2, MobileNetV3, ResNet,
                                         ShuffleNetV1, ShuffleNetV2)
from mmpretrain.models.utils import InvertedResidual
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


def vgg_of_mmpretrain(backbone: nn.Module, preact: bool) -> List[Place]:
    """The last convolution before each pooling; the first is the stem."""
    end, layers = '.activate' if preact else '', backbone.features
    return [
        Place(f'features.{last}{end}', preact)
        for last in (max(
            index for index in range(*span)
            if isinstance(layers[index], ConvModule))
                     for span in backbone.range_sub_modules[1:])
    ]


def mobilenet_v1(backbone: nn.Module, preact: bool) -> List[Place]:
    """The last layers of 128, 256, 512 and 1024 channels."""
    end = '.pointwise_conv.activate' if preact else ''
    return [Place(f'layers.{layer}{end}', preact) for layer in (3, 5, 11, 13)]


def mobilenet_v2(backbone: nn.Module, preact: bool) -> List[Place]:
    """The bottlenecks where the width or the size changes."""
    return [Place(f'stages.{stage}') for stage in (1, 2, 4, 6)]


def mobilenet_v2_of_mmpretrain(backbone: nn.Module,
                               preact: bool) -> List[Place]:
    """The bottlenecks of the same places."""
    return [Place(f'layer{stage}') for stage in (2, 3, 5, 7)]


def mobilenet_v3(backbone: nn.Module, preact: bool) -> List[Place]:
    """The last bottleneck of each size, from a fourth of the images on."""
    blocks = [
        name for name in backbone.layers
        if isinstance(getattr(backbone, name), InvertedResidual)
    ]
    strides = [
        getattr(backbone, name).depthwise_conv.conv.stride[0]
        for name in blocks
    ]
    ends = [
        name for name, stride in zip(blocks, [*strides[1:], 2]) if stride > 1
    ]
    # the first size is that of the stem, unless the first bottleneck halves it
    return [Place(name) for name in (ends if strides[0] > 1 else ends[1:])]


def shufflenet_v1_of_mmpretrain(backbone: nn.Module,
                                preact: bool) -> List[Place]:
    """Every stage; before, what its last activation gets."""
    if not preact:
        return [Place(f'layers.{stage}') for stage in range(3)]
    return [
        Place(f'layers.{stage}.{len(units) - 1}.act', True)
        for stage, units in enumerate(backbone.layers)
    ]


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
    VGG: vgg_of_mmpretrain,
    MobileNetV2: mobilenet_v2_of_mmpretrain,
    MobileNetV3: mobilenet_v3,
    ShuffleNetV1: shufflenet_v1_of_mmpretrain,
    ShuffleNetV2: shufflenet_v2,
}
WITHOUT_PREACT = (mobilenet_v2, mobilenet_v2_of_mmpretrain, mobilenet_v3,
                  shufflenet_v1, shufflenet_v2)


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
        known = ', '.join(sorted({family.__name__ for family in FAMILIES}))
        parts = parts_of(model)
        raise StageError(
            f'the stages of {title} are not known, only those of {known}. '
            'Name the modules whose outputs are the maps by sources=[...] of '
            f'the StageMaps recorder; the model has {", ".join(parts[-8:])}')
    if preact and find in WITHOUT_PREACT:
        raise StageError(
            f'{title} has no activation module at the end of its stages, so '
            'preact=True has nothing to record: leave it out')
    return [
        Place(f'backbone.{name}', before)
        for name, before in find(backbone, preact)
    ]


def parts_of(model: nn.Module) -> List[str]:
    """Names of the parts of a model's backbone, in order.

    Args:
        model (nn.Module): A model; without ``backbone``, its own parts.
    """
    own = getattr(model, 'backbone', None)
    prefix, top = ('', model) if own is None else ('backbone.', own)
    names, children = [], list(top.named_children())
    for name, child in children:
        if isinstance(child,
                      nn.ModuleList) or (isinstance(child, nn.Sequential)
                                         and len(children) == 1):
            names += [f'{prefix}{name}.{index}' for index in range(len(child))]
        else:
            names.append(f'{prefix}{name}')
    return names
