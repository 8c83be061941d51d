# Copyright (c) sdd_mm contributors. All rights reserved.
"""How rotated views relate to the images of a batch (SSKD).

Xu et al., ECCV 2020, as released: the views of a batch come image by image,
the one that is not rotated first.
"""
import torch
from torch import Tensor

from ._tensors import check_positive, full_precision, unit
from .criteria import kd_loss

VIEWS = 4


@full_precision
def rotation_relations(projection: Tensor) -> Tensor:
    """Cosine of every rotated view and every image that is not rotated.

    Args:
        projection (Tensor): Projected features of all views, (4B, D): four
            rows per image, the first of the view that is not rotated.

    Returns:
        Tensor: The cosines, (3B, B). Row r belongs to image r // 3.

    Raises:
        ValueError: If the number of rows is not four per image.

    Examples:
        >>> rotation_relations(torch.rand(32, 64)).shape
        torch.Size([24, 8])
    """
    if projection.ndim != 2 or not len(projection) or len(projection) % VIEWS:
        raise ValueError('projection must have shape (4B, D), four views per '
                         f'image, got {tuple(projection.shape)}')
    views = unit(projection).unflatten(0, (-1, VIEWS))
    return views[:, 1:].flatten(0, 1) @ views[:, 0].T


def keep_ranked(scores: Tensor, target: Tensor, ratio: float) -> Tensor:
    """Rows to learn from: all that are right, and the best of the wrong ones.

    A row's rank is the number of columns that score higher than its target.
    Rows of rank 0 are kept, and of the others the share ``ratio`` with the
    lowest ranks, rounded down; of equal ranks, the first rows.

    Args:
        scores (Tensor): The teacher's logits or relations, (R, K).
        target (Tensor): Integer column that is right, (R,).
        ratio (float): Share of the wrong rows to keep, from 0 to 1.

    Returns:
        Tensor: True where a row is kept, (R,).

    Raises:
        ValueError: If a shape or ``ratio`` is not as above.

    Examples:
        >>> relations = rotation_relations(torch.rand(32, 64))
        >>> keep_ranked(relations, torch.arange(24) // 3, 0.75).shape
        torch.Size([24])
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f'ratio must be from 0 to 1, got {ratio!r}')
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise ValueError('scores must have shape (R, K) and target (R,), got '
                         f'{tuple(scores.shape)} and {tuple(target.shape)}')
    scores = scores.detach()
    rank = (scores > scores.gather(1, target[:, None])).sum(1)
    order = rank.argsort(stable=True)
    place = torch.empty_like(order).scatter_(
        0, order, torch.arange(len(order), device=order.device))
    right = (rank == 0).sum()
    # a product of Python numbers rounds in float64, too
    extra = ((len(rank) - right).double() * ratio).floor()
    return place < right + extra


@full_precision
def relation_loss(student: Tensor,
                  teacher: Tensor,
                  kept: Tensor = None,
                  tau: float = 0.5) -> Tensor:
    """Distillation of the relations of a batch.

    :func:`sdd_mm.functional.kd_loss` over the images of the batch instead of
    classes.

    Args:
        student (Tensor): The student's relations, (3B, B), as
            :func:`rotation_relations` returns them.
        teacher (Tensor): The teacher's relations, (3B, B).
        kept (Tensor, optional): True where a row counts, (3B,), as
            :func:`keep_ranked` returns it. Defaults to None: all count.
        tau (float): Temperature. Defaults to 0.5.

    Returns:
        Tensor: The mean over the rows that count, a scalar; 0 if there are
        none, and for a single image, which relates to nothing else.

    Raises:
        ValueError: If the shapes differ or ``tau`` is not positive.

    Examples:
        >>> student, teacher = torch.rand(2, 24, 8)
        >>> relation_loss(student, teacher).shape
        torch.Size([])
    """
    check_positive('tau', tau)
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError('student and teacher relations must have one shape '
                         f'(3B, B), got {tuple(student.shape)} and '
                         f'{tuple(teacher.shape)}')
    if kept is None:
        kept = torch.ones(len(student), dtype=torch.bool).to(student.device)
    if kept.dtype != torch.bool or kept.shape != student.shape[:1]:
        raise ValueError(f'kept must be a mask of shape ({len(student)},), '
                         f'got {kept.dtype} of shape {tuple(kept.shape)}')
    if student.shape[1] == 1:
        return 0. * student.sum()
    rows = kd_loss(student, teacher, tau)
    return (rows * kept).sum() / kept.sum().clamp(min=1)
