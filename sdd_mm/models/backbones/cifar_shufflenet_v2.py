# Copyright (c) sdd_mm contributors. All rights reserved.
from mmengine.model import BaseModule
from mmpretrain.models.backbones import ShuffleNetV2
from mmpretrain.registry import MODELS
from torch import nn

from .initialization import TORCH_DEFAULT, ConvBNReLU
from .stem import stem_geometry


@MODELS.register_module()
class CIFARShuffleNetV2(ShuffleNetV2):
    """ShuffleNetV2 1x for small images, as distillation papers use it.

    MMPretrain's ``ShuffleNetV2`` with a 1 x 1 stem and no pooling. 32 x 32
    images give a 4 x 4 map.

    Args:
        stem (str): 'cifar', or 'cub' for 224 x 224 images: 7 x 7 with stride
            2, which gives a 14 x 14 map. Defaults to 'cifar'.
        init_cfg (dict | list, optional): Initialization. Defaults to torch's
            default for convolutions, as in the literature's code, and
            constants for BatchNorm.
        **kwargs: The other arguments of MMPretrain's ``ShuffleNetV2``.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 1024, h / 8, w / 8), or
        (B, 1024, h / 16, w / 16) with the 'cub' stem.

    Raises:
        ValueError: If ``stem`` is unknown.

    Examples:
        >>> # in a config
        >>> backbone = dict(type='CIFARShuffleNetV2')
    """

    def __init__(self,
                 stem: str = 'cifar',
                 init_cfg=TORCH_DEFAULT,
                 **kwargs) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.conv1 = ConvBNReLU(
            3,
            self.conv1.out_channels,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            **stem_geometry(stem, kernel_size=1, stride=1))
        self.maxpool = nn.Identity()

    def init_weights(self) -> None:
        """Follow ``init_cfg``, which MMPretrain's class would overwrite."""
        BaseModule.init_weights(self)
