# Copyright (c) sdd_mm contributors. All rights reserved.
"""How the networks of the distillation literature start."""
from mmcv.cnn import ConvModule

# normal, variance 2 / (kernel area * output channels)
KAIMING_NORMAL = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer='BatchNorm2d'),
]
# what torch gives a convolution: uniform within 1 / sqrt(fan in)
TORCH_DEFAULT = [
    dict(
        type='Kaiming',
        layer='Conv2d',
        a=5**0.5,
        mode='fan_in',
        nonlinearity='leaky_relu',
        distribution='uniform'),
    dict(type='Constant', val=1, layer='BatchNorm2d'),
]


class ConvBNReLU(ConvModule):
    """A convolution with BatchNorm and ReLU that obeys ``init_cfg``.

    MMEngine lets the children of a module draw again after the ``init_cfg`` of
    the module, and MMCV's ``ConvModule`` draws Kaiming normal weights whatever
    the ``init_cfg`` says. This one leaves its weights alone.

    Args:
        *args: As in MMCV's ``ConvModule``.
        norm_cfg (dict): The normalization layer. Defaults to
            ``dict(type='BN')``.
        **kwargs: As in MMCV's ``ConvModule``.
    """

    def __init__(self, *args, norm_cfg: dict = dict(type='BN'),
                 **kwargs) -> None:
        super().__init__(*args, norm_cfg=norm_cfg, **kwargs)

    def init_weights(self) -> None:
        """Do nothing: the ``init_cfg`` of the backbone has set the weights."""
