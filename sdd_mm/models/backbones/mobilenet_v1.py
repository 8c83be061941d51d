# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Tuple

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .init import KAIMING


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """MobileNetV1 (Howard et al., 2017), table 1.

    A 3 x 3 convolution with stride 2, then 13 depthwise separable ones. With
    a 1000-class linear head it has 4,231,976 parameters. Papers on
    distillation often name it MobileNetV2 in their ImageNet code.

    Args:
        init_cfg (dict | list, optional): Initialisation. Defaults to Kaiming
            for convolutions and constants for BatchNorm.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 1024, h / 32, w / 32).

    Examples:
        >>> # in a config
        >>> backbone = dict(type='MobileNetV1')
    """

    # (channels, stride) of every depthwise separable convolution
    layers_setting = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1),
                      (512, 2), *((512, 1), ) * 5, (1024, 2), (1024, 1))

    def __init__(self, init_cfg=KAIMING) -> None:
        super().__init__(init_cfg)
        norm, width = dict(type='BN'), 32
        layers = [ConvModule(3, width, 3, stride=2, padding=1, norm_cfg=norm)]
        for channels, stride in self.layers_setting:
            layers.append(
                DepthwiseSeparableConvModule(
                    width,
                    channels,
                    3,
                    stride=stride,
                    padding=1,
                    norm_cfg=norm))
            width = channels
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tuple[Tensor]:
        return (self.layers(images), )
