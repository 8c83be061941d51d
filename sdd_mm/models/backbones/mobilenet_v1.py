# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Tuple

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .initialization import TORCH_DEFAULT


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """MobileNetV1 (Howard et al., 2017), table 1.

    A 3 x 3 convolution with stride 2, followed by 13 depthwise separable
    convolutions. With a linear head for 1000 classes it has 4,231,976
    parameters. The ImageNet code of distillation papers often calls it
    MobileNetV2.

    Args:
        init_cfg (dict | list, optional): Initialization. Defaults to torch's
            default for convolutions, as in the literature's code, and
            constants for BatchNorm.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 1024, h / 32, w / 32).

    Examples:
        >>> # in a config
        >>> backbone = dict(type='MobileNetV1')
    """

    # (channels, stride) of every depthwise separable convolution
    layers_setting = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1),
                      (512, 2), *((512, 1), ) * 5, (1024, 2), (1024, 1))

    def __init__(self, init_cfg=TORCH_DEFAULT) -> None:
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
