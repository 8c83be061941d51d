# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Tuple

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .initialization import KAIMING_NORMAL


@MODELS.register_module()
class CIFARVGG(BaseModule):
    """VGG with BatchNorm for small images, as distillation papers use it.

    Five stages of 3 x 3 convolutions with 64, 128, 256, 512 and 512 channels,
    and 2 x 2 max pooling after each of the first three. 32 x 32 images give a
    4 x 4 map, 224 x 224 images (CUB-200) a 28 x 28 map.

    Args:
        depth (int): 8 (one convolution per stage) or 13 (two).
        init_cfg (dict | list, optional): Initialization. Defaults to Kaiming
            normal for convolutions, as in the literature's code, and
            constants for BatchNorm.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 512, h / 8, w / 8).

    Raises:
        ValueError: If ``depth`` is neither 8 nor 13.

    Examples:
        >>> # in a config
        >>> backbone = dict(type='CIFARVGG', depth=8)
    """

    convolutions = {8: 1, 13: 2}
    channels = (64, 128, 256, 512, 512)

    def __init__(self, depth: int, init_cfg=KAIMING_NORMAL) -> None:
        super().__init__(init_cfg)
        if depth not in self.convolutions:
            raise ValueError(f'depth must be one of {list(self.convolutions)},'
                             f' got {depth}')
        stages, width = [], 3
        for index, channels in enumerate(self.channels):
            layers = []
            for _ in range(self.convolutions[depth]):
                layers += [
                    nn.Conv2d(width, channels, 3, padding=1),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True)
                ]
                width = channels
            if index < 3:
                layers.append(nn.MaxPool2d(2))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tuple[Tensor]:
        return (self.stages(images), )
