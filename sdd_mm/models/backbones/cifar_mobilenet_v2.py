# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Tuple

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .initialization import KAIMING_NORMAL, ConvBNReLU
from .stem import stem_geometry


class InvertedResidual(nn.Module):
    """The block of MobileNetV2, which expands even by a factor of 1.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution.
        expansion (int): Factor between the channels of the input and those
            of the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int,
                 expansion: int) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        norm, mid = dict(type='BN'), in_channels * expansion
        self.conv = nn.Sequential(
            ConvModule(in_channels, mid, 1, norm_cfg=norm),
            ConvModule(
                mid,
                mid,
                3,
                stride=stride,
                padding=1,
                groups=mid,
                norm_cfg=norm),
            ConvModule(mid, out_channels, 1, norm_cfg=norm, act_cfg=None))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(BaseModule):
    """MobileNetV2 for small images, as distillation papers use it.

    It differs from Sandler et al., 2018 in four ways: ReLU instead of ReLU6,
    an expansion convolution in the first block too, no stride in the second
    stage, and channels truncated to integers instead of rounded to multiples
    of 8. 32 x 32 images give a 2 x 2 map. With ``width`` 0.5 the literature
    calls it mobile_half.

    Args:
        width (float): Multiplier of the channels. The last layer never has
            fewer than 1280. Defaults to 0.5.
        stem (str): 'cifar', or 'cub' for 224 x 224 images: 7 x 7 with stride
            2, then 2 x 2 max pooling, which gives a 7 x 7 map. Defaults to
            'cifar'.
        init_cfg (dict | list, optional): Initialization. Defaults to Kaiming
            normal for convolutions, as in the literature's code, and
            constants for BatchNorm.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 1280, h / 16, w / 16), or
        (B, 1280, h / 32, w / 32) with the 'cub' stem.

    Raises:
        ValueError: If ``stem`` is unknown.

    Examples:
        >>> # in a config
        >>> backbone = dict(type='CIFARMobileNetV2', width=0.5)
    """

    # (expansion, channels, blocks, stride of the first) of every stage
    stages_setting = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2),
                      (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1,
                                                                     1))

    def __init__(self,
                 width: float = 0.5,
                 stem: str = 'cifar',
                 init_cfg=KAIMING_NORMAL) -> None:
        super().__init__(init_cfg)
        channels = int(32 * width)
        self.conv1 = ConvBNReLU(3, channels, **stem_geometry(stem, 3, 2))
        self.maxpool = nn.MaxPool2d(2) if stem == 'cub' else nn.Identity()
        stages = []
        for expansion, base, blocks, stride in self.stages_setting:
            stage = []
            for index in range(blocks):
                stage.append(
                    InvertedResidual(channels, int(base * width),
                                     stride if index == 0 else 1, expansion))
                channels = int(base * width)
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.conv2 = ConvBNReLU(channels, int(1280 * max(width, 1)), 1)

    def forward(self, images: Tensor) -> Tuple[Tensor]:
        x = self.maxpool(self.conv1(images))
        return (self.conv2(self.stages(x)), )
