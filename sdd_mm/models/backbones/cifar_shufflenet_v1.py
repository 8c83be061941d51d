# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Tuple

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.models.utils import channel_shuffle
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .initialization import TORCH_DEFAULT, ConvBNReLU
from .stem import stem_geometry

STEM_CHANNELS = 24


class ShuffleUnit(nn.Module):
    """The unit of ShuffleNetV1, with a ReLU after the depthwise convolution.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output. With stride 2 they
            include the pooled input.
        stride (int): 1, which adds the input, or 2, which appends it.
        groups (int): Groups of the two pointwise convolutions. The first has
            a single group where its input comes from the stem.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int,
                 groups: int) -> None:
        super().__init__()
        self.stride = stride
        self.shuffled = 1 if in_channels == STEM_CHANNELS else groups
        if stride == 2:
            out_channels -= in_channels
        norm, mid = dict(type='BN'), out_channels // 4
        self.conv1 = ConvModule(
            in_channels, mid, 1, groups=self.shuffled, norm_cfg=norm)
        self.conv2 = ConvModule(
            mid, mid, 3, stride=stride, padding=1, groups=mid, norm_cfg=norm)
        self.conv3 = ConvModule(
            mid, out_channels, 1, groups=groups, norm_cfg=norm, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(self.conv1(x), self.shuffled)
        out = self.conv3(self.conv2(out))
        if self.stride == 2:
            x = F.avg_pool2d(x, 3, stride=2, padding=1)
            return F.relu(torch.cat((out, x), dim=1))
        return F.relu(out + x)


@MODELS.register_module()
class CIFARShuffleNetV1(BaseModule):
    """ShuffleNetV1 (3 groups) for small images, as distillation papers use it.

    It differs from Zhang et al., 2018: a 1 x 1 stem without pooling, and a
    ReLU after the depthwise convolutions. 32 x 32 images give a 4 x 4 map.

    Args:
        stem (str): 'cifar', or 'cub' for 224 x 224 images: 7 x 7 with stride
            2, which gives a 14 x 14 map. Defaults to 'cifar'.
        init_cfg (dict | list, optional): Initialization. Defaults to torch's
            default for convolutions, as in the literature's code, and
            constants for BatchNorm.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 960, h / 8, w / 8), or
        (B, 960, h / 16, w / 16) with the 'cub' stem.

    Raises:
        ValueError: If ``stem`` is unknown.

    Examples:
        >>> # in a config
        >>> backbone = dict(type='CIFARShuffleNetV1')
    """

    # (channels, units) of every stage
    stages_setting = ((240, 4), (480, 8), (960, 4))

    def __init__(self, stem: str = 'cifar', init_cfg=TORCH_DEFAULT) -> None:
        super().__init__(init_cfg)
        width = STEM_CHANNELS
        self.conv1 = ConvBNReLU(3, width, **stem_geometry(stem, 1, 1))
        stages = []
        for channels, units in self.stages_setting:
            stage = []
            for index in range(units):
                stage.append(
                    ShuffleUnit(
                        width, channels, stride=1 + (index == 0), groups=3))
                width = channels
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tuple[Tensor]:
        return (self.stages(self.conv1(images)), )
