# Copyright (c) sdd_mm contributors. All rights reserved.
"""The distillation loss of one row of logits (LD of equation 8).

Each function maps ``(..., K)`` logits to ``(...)`` losses, is computed in log
space, and includes the factor tau squared.
"""
from typing import Tuple

import torch
from torch import Tensor

from ._tensors import check_logits, check_positive, class_index, full_precision


@full_precision
def kd_loss(student: Tensor, teacher: Tensor, tau: float = 4.0) -> Tensor:
    r"""Knowledge distillation (Hinton et al., 2015), equation 1.

    .. math:: \tau^2\, KL(\sigma(t / \tau) \,\|\, \sigma(s / \tau))

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K).
        tau (float): Temperature. Defaults to 4.0.

    Returns:
        Tensor: One loss per row, (...).

    Raises:
        ValueError: If shapes differ, K < 2, or ``tau`` is not positive.

    Examples:
        >>> kd_loss(torch.zeros(21, 8, 100), torch.rand(21, 8, 100)).shape
        torch.Size([21, 8])
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    log_s = (student / tau).log_softmax(dim=-1)
    log_t = (teacher / tau).log_softmax(dim=-1)
    return tau**2 * _kl(log_t, log_s)


@full_precision
def dkd_loss(student: Tensor,
             teacher: Tensor,
             target: Tensor,
             alpha: float = 1.0,
             beta: float = 8.0,
             tau: float = 4.0) -> Tensor:
    r"""Decoupled knowledge distillation (Zhao et al., CVPR 2022).

    With :math:`q = \sigma(t/\tau)_y`, :math:`p = \sigma(s/\tau)_y` and
    :math:`\sigma_{\setminus y}` the softmax over the classes other than y:

    .. math::
        \tau^2 \left[ \alpha \left( q \ln\frac{q}{p} +
        (1-q) \ln\frac{1-q}{1-p} \right) + \beta\,
        KL(\sigma_{\setminus y}(t/\tau) \| \sigma_{\setminus y}(s/\tau))
        \right]

    ``alpha`` and ``beta`` are DKD's own; the paper's beta and gamma of
    equation 10 are ``consistent_weight`` and ``complementary_weight``.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K).
        target (Tensor): Labels, (...), or scores, (..., K), which act through
            their argmax.
        alpha (float): Weight of the target class part. Defaults to 1.0.
        beta (float): Weight of the non-target part. Defaults to 8.0.
        tau (float): Temperature. Defaults to 4.0.

    Returns:
        Tensor: One loss per row, (...).

    Raises:
        ValueError: If shapes do not agree, K < 2, or ``tau`` is not positive.
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    index = class_index(target, student).unsqueeze(-1)
    student, teacher = student / tau, teacher / tau
    log_p, log_not_p = _decouple(student, index)
    log_q, log_not_q = _decouple(teacher, index)
    target_part = (
        log_q.exp() * (log_q - log_p) + log_not_q.exp() *
        (log_not_q - log_not_p))
    others_part = _kl(_others(teacher, index), _others(student, index))
    return tau**2 * (alpha * target_part + beta * others_part)


@full_precision
def nkd_loss(student: Tensor,
             teacher: Tensor,
             target: Tensor,
             gamma: float = 1.5,
             tau: float = 1.0,
             keep_target: bool = False) -> Tensor:
    r"""Normalized knowledge distillation (Yang et al., ICCV 2023).

    .. math::
        -\sigma(t)_y \ln \sigma(s)_y - \gamma \tau^2 \sum_{k \ne y}
        \sigma_{\setminus y}(t/\tau)_k \ln \sigma_{\setminus y}(s/\tau)_k

    The first term has no temperature. ``gamma`` is NKD's own; the paper's
    beta and gamma of equation 10 are ``consistent_weight`` and
    ``complementary_weight``.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K).
        target (Tensor): Labels, (...), or scores, (..., K), which act through
            their argmax.
        gamma (float): Weight of the non-target part. Defaults to 1.5.
        tau (float): Temperature of the non-target part. Defaults to 1.0.
        keep_target (bool): Whether the second term runs over all classes, as
            in the code that SDD's authors released (the mask that was to drop
            the target class drops nothing there). Defaults to False.

    Returns:
        Tensor: One loss per row, (...). It is a cross entropy: at
        ``student == teacher`` it is the teacher's entropy, not zero.

    Raises:
        ValueError: If shapes do not agree, K < 2, or ``tau`` is not positive.
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    index = class_index(target, student).unsqueeze(-1)
    target_part = -(
        _at(teacher.log_softmax(dim=-1), index).exp() *
        _at(student.log_softmax(dim=-1), index))
    if keep_target:
        log_s = (student / tau).log_softmax(dim=-1)
        log_t = (teacher / tau).log_softmax(dim=-1)
    else:
        log_s = _others(student / tau, index)
        log_t = _others(teacher / tau, index)
    others_part = -(log_t.exp() * log_s).sum(dim=-1)
    return target_part + gamma * tau**2 * others_part


def _kl(log_t: Tensor, log_s: Tensor) -> Tensor:
    """KL(t || s) over the last dimension, from log probabilities."""
    return (log_t.exp() * (log_t - log_s)).sum(dim=-1)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """The value at the target class, (...)."""
    return values.gather(-1, index).squeeze(-1)


def _drop(logits: Tensor, index: Tensor) -> Tensor:
    """The logits of the classes other than the target, (..., K - 1).

    The target is left out by position, not masked by a large number: classes
    before it stay, classes after it move up by one. The shape is static and
    nothing is read back from the device.
    """
    position = torch.arange(logits.shape[-1] - 1, device=logits.device)
    return logits.gather(-1, position + (position >= index))


def _others(logits: Tensor, index: Tensor) -> Tensor:
    """Log softmax over the classes other than the target, (..., K - 1)."""
    return _drop(logits, index).log_softmax(dim=-1)


def _decouple(logits: Tensor, index: Tensor) -> Tuple[Tensor, Tensor]:
    """Log p(target) and log (1 - p(target)), each (...)."""
    logits = logits - logits.amax(dim=-1, keepdim=True).detach()
    total = logits.logsumexp(dim=-1)
    rest = _drop(logits, index).logsumexp(dim=-1)
    return _at(logits, index) - total, rest - total
