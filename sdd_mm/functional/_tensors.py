# Copyright (c) sdd_mm contributors. All rights reserved.
"""What every loss function asks of the tensors that it is given."""
import functools

import torch
from torch import Tensor


def full_precision(function):
    """Run ``function`` in float32 (float64 if given), with autocast disabled.

    Casting alone is not enough: inside autocast a matrix product of float32
    tensors is still taken in half precision.
    """

    def widen(value):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(torch.promote_types(value.dtype, torch.float32))
        return value

    @functools.wraps(function)
    def wrapper(first: Tensor, *args, **kwargs):
        with torch.autocast(first.device.type, enabled=False):
            return function(
                widen(first), *map(widen, args),
                **{key: widen(value)
                   for key, value in kwargs.items()})

    return wrapper


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Refuse logits that cannot be compared class by class."""
    if student.shape != teacher.shape:
        raise ValueError(
            'student and teacher logits must have one shape (..., K), got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}')
    if student.ndim < 1 or student.shape[-1] < 2:
        raise ValueError('logits need at least 2 classes in their last '
                         f'dimension, got shape {tuple(student.shape)}')


def check_positive(name: str, value: float) -> None:
    """Refuse a temperature that is not a positive number."""
    if not value > 0:
        raise ValueError(f'{name} must be positive, got {value!r}')


def class_index(target: Tensor, logits: Tensor) -> Tensor:
    """Integer labels of ``logits`` (..., K) from labels or class scores.

    Args:
        target (Tensor): Integer labels with the shape of ``logits`` less its
            last dimension, or scores (soft labels) with that last dimension,
            which act through their argmax.
        logits (Tensor): Shape (..., K).

    Returns:
        Tensor: Integer labels, shape (...).
    """
    if target.shape == logits.shape:
        return target.argmax(dim=-1)
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f'target must have shape {tuple(logits.shape[:-1])} (labels) or '
            f'{tuple(logits.shape)} (scores), got {tuple(target.shape)}')
    if target.is_floating_point():
        raise ValueError('labels must be integers, got a target of shape '
                         f'{tuple(target.shape)} and dtype {target.dtype}')
    return target.long()
