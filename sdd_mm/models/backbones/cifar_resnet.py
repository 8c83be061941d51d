# Copyright (c) sdd_mm contributors. All rights reserved.
from mmcv.cnn import build_conv_layer
from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.registry import MODELS

from .stem import stem_geometry


@MODELS.register_module()
class CUBResNet(ResNet_CIFAR):
    """A four-stage ResNet for CUB-200, as distillation papers use it.

    MMPretrain's ``ResNet_CIFAR`` with a 7 x 7 stem of stride 2. There is no
    max pooling: 224 x 224 images give a 14 x 14 map.

    Args:
        depth (int): Number of layers, 18, 34, 50, 101 or 152.
        zero_init_residual (bool): Whether every block starts as an identity.
            MMPretrain's own default is True; the distillation literature does
            not do this. Defaults to False.
        stem (str): 'cub' or, as in ``ResNet_CIFAR``, 'cifar'. Defaults to
            'cub'.
        **kwargs: The other arguments of MMPretrain's ``ResNet_CIFAR``.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, C, h / 16, w / 16).

    Raises:
        ValueError: If ``stem`` is unknown.

    Examples:
        >>> # in a config
        >>> backbone = dict(type='CUBResNet', depth=50)
    """

    def __init__(self,
                 depth: int,
                 zero_init_residual: bool = False,
                 stem: str = 'cub',
                 **kwargs) -> None:
        self.stem = stem
        super().__init__(
            depth, zero_init_residual=zero_init_residual, **kwargs)

    def _make_stem_layer(self, in_channels: int, base_channels: int) -> None:
        geometry = stem_geometry(self.stem, kernel_size=3, stride=1)
        super()._make_stem_layer(in_channels, base_channels)
        if self.stem != 'cifar':  # which is what MMPretrain made
            self.conv1 = build_conv_layer(
                self.conv_cfg,
                in_channels,
                base_channels,
                bias=False,
                **geometry)


@MODELS.register_module()
class CIFARResNet(CUBResNet):
    """The three-stage ResNet for CIFAR (He et al., 2016, section 4.2).

    A 3 x 3 stem without pooling, then three stages of ``(depth - 2) / 6``
    basic blocks with ``width``, ``2 width`` and ``4 width`` channels. What
    the distillation literature calls resnet20 or resnet56 has width 16;
    resnet8x4 and resnet32x4 have width 64 and a stem of 32 channels.

    Args:
        depth (int): Number of layers, ``6 n + 2``.
        width (int): Channels of the first stage. Defaults to 16.
        stem_channels (int): Channels of the stem. Defaults to 16.
        stem (str): 'cifar', or 'cub' for 224 x 224 images: 7 x 7 with stride
            2. Defaults to 'cifar'.
        **kwargs: The other arguments of :class:`CUBResNet`.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 4 width, h / 4, w / 4), or
        (B, 4 width, h / 8, w / 8) with the 'cub' stem.

    Raises:
        ValueError: If ``depth`` is not ``6 n + 2`` or ``stem`` is unknown.

    Examples:
        >>> # in a config: resnet8x4
        >>> backbone = dict(
        ...     type='CIFARResNet', depth=8, width=64, stem_channels=32)
    """

    def __init__(self,
                 depth: int,
                 width: int = 16,
                 stem_channels: int = 16,
                 stem: str = 'cifar',
                 **kwargs) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f'depth must be 6 n + 2 (8, 20, 32, ...), got '
                             f'{depth}')
        self.arch_settings = {depth: (BasicBlock, (blocks, ) * 3)}
        super().__init__(
            depth,
            stem=stem,
            stem_channels=stem_channels,
            base_channels=width,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2, ),
            **kwargs)
