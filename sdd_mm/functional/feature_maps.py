# Copyright (c) sdd_mm contributors. All rights reserved.
"""Losses that compare feature maps position by position."""
from typing import Sequence

import torch.nn.functional as F
from torch import Tensor

from ._tensors import check_samples, full_precision
from .local_logits import pool_cells

GRIDS = (4, 2, 1)
"""Grids of the hierarchical context loss; each weighs half of the last."""


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Refuse feature maps that cannot be compared position by position."""
    if student.shape != teacher.shape:
        raise ValueError('student and teacher must have one shape, got '
                         f'{tuple(student.shape)} and {tuple(teacher.shape)}')
    check_samples(student, teacher)


def shrink(feature: Tensor, size: Sequence[int]) -> Tensor:
    """Average a map, (B, C, h, w), to a smaller size, (B, C, *size)."""
    height, width = feature.shape[2:]
    if height % size[0] == 0 and width % size[1] == 0:
        # whose backward pass is deterministic on a GPU
        return F.avg_pool2d(feature, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(feature, tuple(size))


@full_precision
def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of two feature maps (FitNet).

    The hint loss of Romero et al., ICLR 2015, as the mean over all elements
    instead of half the sum.

    Args:
        student (Tensor): The student's map, regressed to the teacher's shape,
            (B, ...).
        teacher (Tensor): The teacher's map, (B, ...).

    Returns:
        Tensor: The loss, a scalar.

    Raises:
        ValueError: If the shapes differ or there is no sample.

    Examples:
        >>> hint_loss(torch.rand(8, 64, 8, 8), torch.rand(8, 64, 8, 8)).shape
        torch.Size([])
    """
    check_maps(student, teacher)
    return F.mse_loss(student, teacher.detach())


@full_precision
def masked_generation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of squared errors per sample (MGD).

    The loss of Yang et al., ECCV 2022: the sum over channels and positions,
    averaged over the batch.

    Args:
        student (Tensor): What the student's masked map generates, (B, ...).
        teacher (Tensor): The teacher's map, (B, ...).

    Returns:
        Tensor: The loss, a scalar.

    Raises:
        ValueError: If the shapes differ or there is no sample.

    Examples:
        >>> generated = torch.rand(8, 64, 4, 4)
        >>> masked_generation_loss(generated, torch.rand(8, 64, 4, 4)).shape
        torch.Size([])
    """
    check_maps(student, teacher)
    squares = F.mse_loss(student, teacher.detach(), reduction='sum')
    return squares / len(student)


@full_precision
def hierarchical_context_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared errors of a map and of its averages over grids (ReviewKD).

    The hierarchical context loss of Chen et al., CVPR 2021, as released. With
    :math:`G` the grids 4 x 4, 2 x 2 and 1 x 1 that are smaller than the map,
    in this order:

    .. math::
        \frac{MSE(s, t) + \sum_{i=1}^{|G|} 2^{-i}\, MSE(pool_{G_i}(s),
        pool_{G_i}(t))}{1 + \sum_{i=1}^{|G|} 2^{-i}}

    Args:
        student (Tensor): The student's reviewed map, (B, C, h, w).
        teacher (Tensor): The teacher's map, (B, C, h, w).

    Returns:
        Tensor: The loss of this level, a scalar.

    Raises:
        ValueError: If they are no maps of one shape, or there is no sample.

    Examples:
        >>> maps = torch.rand(2, 8, 64, 8, 8)
        >>> hierarchical_context_loss(*maps).shape
        torch.Size([])
    """
    check_maps(student, teacher)
    if student.ndim != 4:
        raise ValueError('student and teacher must be maps of shape (B, C, h, '
                         f'w), got {tuple(student.shape)}')
    teacher = teacher.detach()
    loss, total = F.mse_loss(student, teacher), 1.
    grids = [grid for grid in GRIDS if grid < student.shape[2]]
    if not grids:
        return loss
    rows = [grid * grid for grid in grids]
    cells = (
        pool_cells(x, grids, 'direct').split(rows) for x in (student, teacher))
    for level, pair in enumerate(zip(*cells), start=1):
        loss = loss + 0.5**level * F.mse_loss(*pair)
        total += 0.5**level
    return loss / total
