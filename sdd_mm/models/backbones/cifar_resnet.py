# Copyright (c) sdd_mm contributors. All rights reserved.
from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """The three-stage ResNet of CIFAR (He et al., 2016), section 4.2.

    A 3 x 3 stem without pooling, then three stages of ``(depth - 2) / 6``
    basic blocks with ``width``, ``2 width`` and ``4 width`` channels. The
    networks that the distillation literature calls resnet20 or resnet56 have
    width 16; resnet8x4 and resnet32x4 have width 64 and a stem of 32.

    Args:
        depth (int): Number of layers, ``6 n + 2``.
        width (int): Channels of the first stage. Defaults to 16.
        stem_channels (int): Channels of the stem. Defaults to 16.
        zero_init_residual (bool): Whether every block starts as an identity,
            which is MMPretrain's default and not that of the distillation
            literature. Defaults to False.
        **kwargs: The other arguments of MMPretrain's ``ResNet_CIFAR``.

    Returns of forward:
        tuple[Tensor]: The last map after ReLU, (B, 4 width, h / 4, w / 4).

    Raises:
        ValueError: If ``depth`` is not ``6 n + 2``.

    Examples:
        >>> # in a config: resnet8x4
        >>> backbone = dict(
        ...     type='CIFARResNet', depth=8, width=64, stem_channels=32)
    """

    def __init__(self,
                 depth: int,
                 width: int = 16,
                 stem_channels: int = 16,
                 zero_init_residual: bool = False,
                 **kwargs) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f'depth must be 6 n + 2 (8, 20, 32, ...), got '
                             f'{depth}')
        self.arch_settings = {depth: (BasicBlock, (blocks, ) * 3)}
        super().__init__(
            depth,
            stem_channels=stem_channels,
            base_channels=width,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2, ),
            zero_init_residual=zero_init_residual,
            **kwargs)
