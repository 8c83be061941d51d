# Copyright (c) sdd_mm contributors. All rights reserved.
"""Consistent and complementary cells, and their sum (equations 9 and 10)."""
from typing import Callable, Optional

import torch
from torch import Tensor

from ._tensors import check_choice, check_logits, class_index, full_precision

CONSISTENCIES = ('label', 'class')
REDUCTIONS = ('mean', 'sum')
Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
Factor = Callable[[Tensor, Tensor], Tensor]


def complementary_cells(teacher: Tensor,
                        target: Tensor,
                        consistency: str = 'label',
                        global_logits: Optional[Tensor] = None) -> Tensor:
    """Cells that the teacher classifies differently from the whole image.

    Args:
        teacher (Tensor): The teacher's local logits, (N, B, K).
        target (Tensor): Labels, (B,), or scores, (B, K), of which the largest
            marks the label.
        consistency (str): 'class' compares the teacher's class of the cell
            with its global class, as the paper says. 'label' compares whether
            the two are correct, as the authors' released code does: two
            different wrong classes are consistent. Defaults to 'label'.
        global_logits (Tensor, optional): The teacher's global logits, (B, K).
            Defaults to None, which takes the first cell.

    Returns:
        Tensor: True where the cell is complementary, (N, B).
    """
    check_choice('consistency', consistency, CONSISTENCIES)
    if teacher.ndim != 3 or teacher.numel() == 0:
        raise ValueError('teacher local logits must have shape (N, B, K) with '
                         'at least one cell and one sample, got '
                         f'{tuple(teacher.shape)}')
    if global_logits is None:
        global_logits = teacher[0]
    if global_logits.shape != teacher.shape[1:]:
        raise ValueError(f'global_logits must have shape '
                         f'{tuple(teacher.shape[1:])}, got '
                         f'{tuple(global_logits.shape)}')
    label = class_index(target, global_logits)
    local_class = teacher.argmax(dim=-1)
    global_class = global_logits.argmax(dim=-1)
    if consistency == 'class':
        return local_class != global_class
    return (local_class == label) != (global_class == label)


def cell_weights(teacher: Tensor,
                 target: Tensor,
                 consistency: str = 'label',
                 consistent: float = 1.0,
                 complementary: float = 2.0,
                 global_logits: Optional[Tensor] = None) -> Tensor:
    """Weight of every cell and sample (beta and gamma of equation 10).

    Args:
        teacher (Tensor): The teacher's local logits, (N, B, K).
        target (Tensor): Labels, (B,), or scores, (B, K).
        consistency (str): 'label' or 'class', see
            :func:`complementary_cells`. Defaults to 'label'.
        consistent (float): Weight of a consistent cell, the paper's beta.
            Defaults to 1.0.
        complementary (float): Weight of a complementary cell, the paper's
            gamma. Defaults to 2.0.
        global_logits (Tensor, optional): The teacher's global logits, (B, K).
            Defaults to None, which takes the first cell.

    Returns:
        Tensor: (N, B), in float32 or wider.

    Raises:
        ValueError: If a shape or ``consistency`` is not as above.
    """
    mask = complementary_cells(teacher, target, consistency, global_logits)
    weights = torch.full(
        mask.shape,
        consistent,
        dtype=torch.promote_types(teacher.dtype, torch.float32),
        device=mask.device)
    return weights.masked_fill(mask, complementary)


@full_precision
def scale_decoupled_loss(student: Tensor,
                         teacher: Tensor,
                         target: Tensor,
                         criterion: Criterion,
                         consistent_weight: float = 1.0,
                         complementary_weight: float = 2.0,
                         consistency: str = 'label',
                         reduction: str = 'mean',
                         global_logits: Optional[Tensor] = None,
                         factor: Optional[Factor] = None) -> Tensor:
    r"""The SDD loss over local logits (equations 9 and 10).

    .. math::
        L_{SDD} = \sum_{m \in M} \sum_{n \in N_m} \beta\, D_{con}(m, n) +
        \gamma\, D_{com}(m, n)

    where beta is ``consistent_weight``, gamma ``complementary_weight``, and D
    the criterion of equation 8.

    Args:
        student (Tensor): The student's local logits, (N, B, K).
        teacher (Tensor): The teacher's local logits, (N, B, K).
        target (Tensor): Labels, (B,), or scores, (B, K).
        criterion (Callable): ``criterion(student_rows, teacher_rows,
            target_rows)`` maps (N, B, K), (N, B, K) and (N, B) to (N, B).
        consistent_weight (float): The paper's beta. Defaults to 1.0.
        complementary_weight (float): The paper's gamma. Defaults to 2.0.
        consistency (str): 'label' or 'class', see
            :func:`complementary_cells`. Defaults to 'label'.
        reduction (str): 'mean' over cells and batch, as released; 'sum' over
            cells and mean over the batch, as in equations 9 and 10; or 'none'.
            Defaults to 'mean'.
        global_logits (Tensor, optional): The teacher's global logits, (B, K).
            Defaults to None, which takes the first cell.
        factor (Callable, optional): Maps the local logits of student and
            teacher to a further factor of every cell and sample, (N, B).
            Defaults to None, which is 1.

    Returns:
        Tensor: The loss, a scalar; the weighted rows, (N, B), for 'none'.

    Raises:
        ValueError: If shapes do not agree, there is no cell or no sample, or
            ``consistency`` or ``reduction`` is not as above.

    Examples:
        >>> student, teacher = torch.rand(2, 21, 8, 100)
        >>> labels = torch.randint(100, (8, ))
        >>> scale_decoupled_loss(student, teacher, labels, dkd_loss).shape
        torch.Size([])
    """
    check_choice('reduction', reduction, (*REDUCTIONS, 'none'))
    check_logits(student, teacher)
    weights = cell_weights(teacher, target, consistency, consistent_weight,
                           complementary_weight, global_logits)
    label = class_index(target, student[0]).expand(weights.shape)
    rows = criterion(student, teacher, label)
    if rows.shape != weights.shape:
        raise ValueError('the criterion must return one loss per cell and '
                         f'sample, {tuple(weights.shape)}, got '
                         f'{tuple(rows.shape)}')
    if factor is not None:
        weights = weights * factor(student, teacher)
    rows = weights * rows
    if reduction == 'none':
        return rows
    return rows.mean() if reduction == 'mean' else rows.sum(0).mean()
