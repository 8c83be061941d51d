# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 9 and 10, cell by cell and sample by sample."""
from typing import Callable, List

import torch
from torch import Tensor

from .tensors import scalars, stacked


def predicted(row: list) -> int:
    """The class of the largest logit."""
    best = 0
    for class_ in range(len(row)):
        if row[class_] > row[best]:
            best = class_
    return best


def is_complementary(cell: list, image: list, label: int,
                     consistency: str) -> bool:
    """Whether the teacher classifies a cell differently from the whole image.

    'class' is the paper's reading: "Another is the complementary terms that
    belong to different classes from the global logit output". 'label' is
    that of the released code: exactly one of the two is correct.
    """
    if consistency == 'class':
        return predicted(cell) != predicted(image)
    cell_right = predicted(cell) == label
    image_right = predicted(image) == label
    return cell_right and not image_right or image_right and not cell_right


def weights(teacher: Tensor,
            target: List[int],
            consistency: str,
            beta: float,
            gamma: float,
            image: Tensor = None) -> Tensor:
    """Beta of equation 10 on a consistent cell, gamma on another, (N, B).

    ``image`` holds the teacher's global logits, (B, K); the first cell's if
    it is not given.
    """
    image = scalars(teacher[0] if image is None else image)
    result = []
    for cell in scalars(teacher):
        result.append([
            gamma if is_complementary(row, image[b], target[b], consistency)
            else beta for b, row in enumerate(cell)
        ])
    return torch.tensor(result, dtype=torch.float64)


def equation_9(rows: Tensor, reduction: str) -> Tensor:
    """The sum of D(m, n) over scales and cells, of (N, B) losses.

    'sum' takes the mean over the batch of that sum, as the equation has it.
    'mean' also divides by the number of cells, as the released code does.
    """
    cells = scalars(rows)
    total = 0.
    for cell in cells:
        for loss in cell:
            total = total + loss
    total = total / len(cells[0])
    return total / len(cells) if reduction == 'mean' else total


def equation_10(student: Tensor,
                teacher: Tensor,
                target: List[int],
                row_loss: Callable,
                beta: float,
                gamma: float,
                consistency: str,
                reduction: str,
                image: Tensor = None) -> Tensor:
    """The sum of beta D_con(m, n) + gamma D_com(m, n).

    ``row_loss(student_row, teacher_row, label)`` is LD of equation 8. 'none'
    is no sum, but the summands, (N, B).
    """
    image = scalars(teacher[0] if image is None else image)
    student, teacher = scalars(student), scalars(teacher)
    total = 0.
    summands = []
    for n in range(len(student)):
        summands.append([])
        for b in range(len(student[n])):
            loss = row_loss(student[n][b], teacher[n][b], target[b])
            if is_complementary(teacher[n][b], image[b], target[b],
                                consistency):
                d_con, d_com = 0., loss
            else:
                d_con, d_com = loss, 0.
            summands[n].append(beta * d_con + gamma * d_com)
            total = total + summands[n][b]
    if reduction == 'none':
        return stacked(summands)
    total = total / len(target)
    return total / len(student) if reduction == 'mean' else total
