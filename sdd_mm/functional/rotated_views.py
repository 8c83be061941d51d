# Copyright (c) sdd_mm contributors. All rights reserved.
"""The views of SSKD: every image in four rotations, each with its own crop."""
import torch
from torch import Tensor

from .rotation_relations import VIEWS


def rotated_views(images: Tensor, fill: Tensor, padding: int = 4) -> Tensor:
    """Four views of every image: rotated, padded, and cropped anew.

    A view is rotated by 0, 90, 180 or 270 degrees, padded on all sides, and
    cropped to its size at a place of its own (Xu et al., ECCV 2020, as
    released). The places are drawn from torch's CPU generator.

    Args:
        images (Tensor): Square images, (B, C, H, H).
        fill (Tensor): Value of the padding, (C,) or (1,): black, as the
            images have it.
        padding (int): Pixels on each side. Defaults to 4.

    Returns:
        Tensor: The views, (4B, C, H, H): those of the first image first, and
        of each image the one that is not rotated first.

    Raises:
        ValueError: If the images are not square.

    Examples:
        >>> images = torch.rand(8, 3, 32, 32)
        >>> rotated_views(images, fill=torch.zeros(3)).shape
        torch.Size([32, 3, 32, 32])
    """
    if images.ndim != 4 or images.shape[-1] != images.shape[-2]:
        raise ValueError('images to rotate must be square, (B, C, H, H), got '
                         f'{tuple(images.shape)}')
    views = torch.stack(
        [torch.rot90(images, turn, (-2, -1)) for turn in range(VIEWS)],
        1).flatten(0, 1)
    if not padding:
        return views
    count, channels, size, _ = views.shape
    inner = slice(padding, padding + size)
    padded = fill.to(views).expand(channels).view(1, -1, 1, 1).repeat(
        count, 1, size + 2 * padding, size + 2 * padding)
    padded[..., inner, inner] = views
    starts = torch.randint(2 * padding + 1, (2, count, 1))
    rows, columns = (starts + torch.arange(size)).to(
        views.device, non_blocking=True)
    rows = rows[:, None, :, None].expand(-1, channels, -1, padded.shape[-1])
    columns = columns[:, None, None, :].expand(-1, channels, size, -1)
    return padded.gather(2, rows).gather(3, columns)
