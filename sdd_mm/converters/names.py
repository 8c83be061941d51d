# Copyright (c) sdd_mm contributors. All rights reserved.
"""Names of modules in RepDistiller, mdistiller and torchvision.

For every backbone class: pairs of a pattern for the foreign name and the name
in MMPretrain's ``ImageClassifier``. The first pattern that matches the whole
name counts; a name that no pattern matches has no counterpart.
"""
import re
from typing import Callable, Optional, Tuple, Union

Rules = Tuple[Tuple[str, Union[str, Callable]], ...]


def _conv_module(parent: str) -> Callable:
    """Names for convolutions, norms and ReLUs in one flat sequence.

    MMPretrain has a ``ConvModule`` for every three of them. ``parent`` is its
    name, with {0} for the first group of the pattern and so on; the last
    group is the number in the sequence.
    """

    def name(match) -> str:
        *groups, number = match.groups()
        unit, part = divmod(int(number), 3)
        return f'{parent.format(*groups, unit=unit)}.{("conv", "bn")[part]}'

    return name


def _numbered(parent: str, *units: str) -> Callable:
    """Names for convolutions and norms that are numbered within a block.

    The groups of the pattern are the stage, which counts from 0 in MMPretrain
    and from 1 in the foreign code, the block, conv or bn, and the number.
    """

    def name(match) -> str:
        stage, block, part, number = match.groups()
        return (f'{parent}.{int(stage) - 1}.{block}.{units[int(number) - 1]}.'
                f'{part}')

    return name


_RESNET_BLOCKS = ((r'(conv1|bn1|layer\d\.\d+\.(?:conv|bn)[123])',
                   r'backbone.\1'), )
# the three-stage ResNet for CIFAR, and torchvision's and mdistiller's ResNet
# for ImageNet
_RESNET: Rules = (*_RESNET_BLOCKS, (r'(layer\d\.\d+\.downsample\.[01])',
                                    r'backbone.\1'), (r'fc', 'head.fc'))
# the four-stage ResNet for CIFAR
_RESNET_V2: Rules = (*_RESNET_BLOCKS, (r'(layer\d\.\d+)\.shortcut\.([01])',
                                       r'backbone.\1.downsample.\2'),
                     (r'linear', 'head.fc'))
# a convolution and a norm side by side, where MMPretrain has a ConvModule
_STEM = (r'(conv|bn)1', r'backbone.conv1.\1')

RULES = {
    'CIFARResNet':
    _RESNET,
    'ResNet':
    _RESNET,
    'ResNet_CIFAR':
    _RESNET_V2,
    'CUBResNet':
    _RESNET_V2,
    'CIFARVGG': (
        (r'block(\d\.\d)', r'backbone.stages.\1'),
        (r'classifier', 'head.fc'),
    ),
    'WideResNet': (
        (r'(conv1|bn1)', r'backbone.\1'),
        (r'block(\d)\.layer\.(\d+)\.((?:conv|bn)[12])',
         r'backbone.layer\1.\2.\3'),
        (r'block(\d)\.layer\.(\d+)\.convShortcut',
         r'backbone.layer\1.\2.downsample'),
        (r'fc', 'head.fc'),
    ),
    'CIFARMobileNetV2': (
        (r'conv([12])\.([01])', _conv_module('backbone.conv{0}')),
        (r'blocks\.(\d)\.(\d)\.conv\.([013467])',
         _conv_module('backbone.stages.{0}.{1}.conv.{unit}')),
        (r'classifier\.0', 'head.fc'),
    ),
    'CIFARShuffleNetV1': (
        _STEM,
        (r'layer(\d)\.(\d)\.(conv|bn)([123])',
         _numbered('backbone.stages', 'conv1', 'conv2', 'conv3')),
        (r'linear', 'head.fc'),
    ),
    'CIFARShuffleNetV2': (
        _STEM,
        (r'layer(\d)\.(0)\.(conv|bn)([12345])',
         _numbered('backbone.layers', 'branch1.0', 'branch1.1', 'branch2.0',
                   'branch2.1', 'branch2.2')),
        (r'layer(\d)\.([1-7])\.(conv|bn)([123])',
         _numbered('backbone.layers', 'branch2.0', 'branch2.1', 'branch2.2')),
        (r'(conv|bn)2', r'backbone.layers.3.\1'),
        (r'linear', 'head.fc'),
    ),
    'MobileNetV1': (
        (r'model\.0\.([01])', _conv_module('backbone.layers.0')),
        (r'model\.(\d+)\.([01])',
         _conv_module('backbone.layers.{0}.depthwise_conv')),
        (r'model\.(\d+)\.([34])',
         _conv_module('backbone.layers.{0}.pointwise_conv')),
        (r'fc', 'head.fc'),
    ),
}


def rename(rules: Rules, name: str) -> Optional[str]:
    """MMPretrain's name of a foreign module.

    Args:
        rules (tuple): The rules of its backbone.
        name (str): The module's foreign name.

    Returns:
        str | None: Its name in an ``ImageClassifier``, None if it has no
        counterpart.
    """
    for pattern, target in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return target(match) if callable(target) else match.expand(target)
    return None
