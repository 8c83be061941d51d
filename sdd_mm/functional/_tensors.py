# Copyright (c) sdd_mm contributors. All rights reserved.
"""Checks and precision that all functions share."""
import functools
import math
from contextlib import nullcontext

import torch
from torch import Tensor

is_compiling = torch.compiler.is_compiling
FULL = (torch.float32, torch.float64)


def full_precision(function):
    """Run ``function`` in float32 (float64 if given), with autocast disabled.

    Casting alone is not enough: inside autocast a matrix product of float32
    tensors is still taken in half precision.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        tensors = _floating([*args, *kwargs.values()])
        if _is_full(tensors):
            return function(*args, **kwargs)
        dtype = functools.reduce(torch.promote_types,
                                 (tensor.dtype for tensor in tensors),
                                 torch.float32)

        def widen(value):
            if isinstance(value, Tensor) and value.is_floating_point():
                return value.to(dtype)
            if type(value) in (list, tuple):
                return type(value)(map(widen, value))
            return value

        with _no_autocast(tensors):
            return function(
                *map(widen, args), **{
                    key: widen(value)
                    for key, value in kwargs.items()
                })

    return wrapper


def _is_full(tensors: list) -> bool:
    """Whether nothing has to be cast, as in calls inside such a function.

    A step on a GPU waits for the host, so every operation counts.
    """
    if not tensors or tensors[0].dtype not in FULL or tensors[0].is_meta:
        return False
    return all(one.dtype == tensors[0].dtype
               for one in tensors[1:]) and (not torch.is_autocast_enabled(
                   tensors[0].device.type))


def _floating(values) -> list:
    """The floating-point tensors among values and in lists of them."""
    found = []
    for value in values:
        if type(value) in (list, tuple):
            found += _floating(value)
        elif isinstance(value, Tensor) and value.is_floating_point():
            found.append(value)
    return found


def _no_autocast(tensors):
    # the meta device, which only has shapes, knows no autocast
    if not tensors or tensors[0].is_meta:
        return nullcontext()
    return torch.autocast(tensors[0].device.type, enabled=False)


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Refuse logits that cannot be compared class by class."""
    if student.shape != teacher.shape:
        raise ValueError(
            'student and teacher logits must have one shape (..., K), got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}')
    if student.ndim < 1 or student.shape[-1] < 2:
        raise ValueError('logits need at least 2 classes in their last '
                         f'dimension, got shape {tuple(student.shape)}')


def check_choice(name: str, value: str, choices: tuple) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')
    return value


def check_positive(name: str, value: float) -> None:
    """Refuse a temperature that is not a positive, finite number."""
    if not 0 < value < math.inf:
        raise ValueError(f'{name} must be positive and finite, got {value!r}')


def class_index(target: Tensor, logits: Tensor) -> Tensor:
    """Integer labels of ``logits`` (..., K) from labels or class scores.

    Args:
        target (Tensor): Integer labels, (...), or scores (soft labels),
            (..., K), of which the largest marks the class.
        logits (Tensor): Shape (..., K).

    Returns:
        Tensor: Integer labels, shape (...).
    """
    if target.shape == logits.shape:
        if target.dtype == torch.bool:
            target = target.byte()
        return target.argmax(dim=-1)
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f'target must have shape {tuple(logits.shape[:-1])} (labels) or '
            f'{tuple(logits.shape)} (scores), got {tuple(target.shape)}')
    if target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError('labels must be integers, got a target of shape '
                         f'{tuple(target.shape)} and dtype {target.dtype}')
    return target.long()


def check_samples(student: Tensor, teacher: Tensor) -> None:
    """Refuse features, (B, ...), of other or no samples."""
    if student.ndim < 2 or teacher.ndim < 2 or (
            len(student) != len(teacher)) or not len(student):
        raise ValueError(
            'student and teacher must be features (B, ...) of the same '
            f'samples, got {tuple(student.shape)} and {tuple(teacher.shape)}')


def unit(rows: Tensor, epsilon: float = 0.) -> Tensor:
    """Rows divided by their length plus ``epsilon``.

    A row of zeros has no direction: it stays, and gets no gradient, which
    would otherwise be infinite.
    """
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / (length + epsilon).masked_fill(length == 0, math.inf)
