# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Tuple

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .init import KAIMING


@MODELS.register_module()
class CIFARVGG(BaseModule):
    """VGG with BatchNorm for small images, as distillation papers use it.

    Five stages of 3 x 3 convolutions with 64, 128, 256, 512 and 512 channels,
    2 x 2 max pooling after the first three. 32 x 32 images end in a 4 x 4
    map, 224 x 224 images (CUB-200) in a 28 x 28 map.

    Args:
        depth (int): 8 (one convolution a stage) or 13 (two).
        init_cfg (dict | list, optional): Initialisation. Defaults to Kaiming
            for convolutions and constants for BatchNorm.

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

    def __init__(self, depth: int, init_cfg=KAIMING) -> None:
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
