# Copyright (c) sdd_mm contributors. All rights reserved.
"""Window attention that can be traced for any batch size."""
from contextlib import contextmanager
from typing import Iterator

from mmpretrain.models.backbones.mixmim import MixMIMBlock
from mmpretrain.models.utils import ShiftWindowMSA
from torch import Tensor


@contextmanager
def traceable_windows() -> Iterator[None]:
    """Let graphs of Swin, DaViT and MixMIM take any number of images.

    MMPretrain 1.2.0 computes the number of images from that of the windows by
    a float division. A trace keeps the result, so that the graph is wrong for
    any other number. Inside this block it is derived from the number of
    channels instead, which gives the same tensor.
    """
    kinds = MixMIMBlock, ShiftWindowMSA
    originals = [vars(kind)['window_reverse'] for kind in kinds]
    for kind in kinds:
        kind.window_reverse = staticmethod(window_reverse)
    try:
        yield
    finally:
        for kind, original in zip(kinds, originals):
            kind.window_reverse = original


def window_reverse(windows: Tensor, H: int, W: int,
                   window_size: int) -> Tensor:
    """Images of windows.

    Args:
        windows (Tensor): Shape (B * H * W / window_size^2, window_size,
            window_size, C).
        H (int): Height of an image.
        W (int): Width of an image.
        window_size (int): Height and width of a window.

    Returns:
        Tensor: Shape (B, H, W, C).
    """
    channels = windows.shape[-1]
    grid = windows.view(-1, H // window_size, W // window_size, window_size,
                        window_size, channels)
    return grid.transpose(2, 3).reshape(-1, H, W, channels)
