# Copyright (c) sdd_mm contributors. All rights reserved.
r"""The distillation loss of one row of logits (:math:`L_D` of equation 8).

Each function maps ``(..., K)`` logits to ``(...)`` losses, works in log space,
and includes the factor tau squared. Losses and derivatives are computed in one
pass, and only the derivative is kept for the backward pass: no gradient flows
into the teacher, and there is no second derivative.
"""
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ._tensors import (check_logits, check_positive, class_index,
                       full_precision, is_compiling)

BLOCK = 2**19
"""Logits per block on a CPU, so that they stay in cache."""


@full_precision
def kd_loss(student: Tensor, teacher: Tensor, tau: float = 4.0) -> Tensor:
    r"""Knowledge distillation (Hinton et al., 2015), equation 1.

    .. math:: \tau^2\, KL(\sigma(t / \tau) \,\|\, \sigma(s / \tau))

    Its derivative by the student's logits is :math:`\tau (\sigma(s / \tau) -
    \sigma(t / \tau))`.

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
    return _Rows.apply(_kd, student, teacher, None, tau)


def _kd(student, teacher, index, tau, with_slope):
    log_p, log_q = ((x / tau).log_softmax(-1) for x in (student, teacher))
    q = log_q.exp()
    loss = tau**2 * log_q.sub_(log_p).mul_(q).sum(-1, keepdim=True)
    if not with_slope:
        return loss, None
    return loss, log_p.exp_().sub_(q).mul_(tau)


@full_precision
def nkd_loss(student: Tensor,
             teacher: Tensor,
             target: Tensor,
             gamma: float = 1.5,
             tau: float = 1.0,
             keep_target: bool = False) -> Tensor:
    r"""Normalized knowledge distillation (Yang et al., ICCV 2023).

    With :math:`\sigma_{\setminus y}` the softmax over the classes other than
    the target y:

    .. math::
        -\sigma(t)_y \ln \sigma(s)_y - \gamma \tau^2 \sum_{k \ne y}
        \sigma_{\setminus y}(t/\tau)_k \ln \sigma_{\setminus y}(s/\tau)_k

    The first term has no temperature. The derivative by the student's logits
    is :math:`\sigma(t)_y (\sigma(s)_k - [k = y]) + \gamma \tau (\hat p_k -
    \hat q_k)`, with :math:`\hat p, \hat q` the distributions of the second
    term, 0 for a class that it drops. ``gamma`` is NKD's own; the paper's beta
    and gamma of equation 10 are ``consistent_weight`` and
    ``complementary_weight``.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K).
        target (Tensor): Labels, (...), or scores, (..., K), of which the
            largest marks the target.
        gamma (float): Weight of the non-target part. Defaults to 1.5.
        tau (float): Temperature of the non-target part. Defaults to 1.0.
        keep_target (bool): Whether the second term runs over all classes, as
            in the code that SDD's authors released (its mask was meant to
            drop the target class, but drops nothing). Defaults to False.

    Returns:
        Tensor: One loss per row, (...). It is a cross entropy: for
        ``student == teacher`` it equals the teacher's entropy, not zero.

    Raises:
        ValueError: If shapes do not agree, K < 2, or ``tau`` is not positive.
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    index = class_index(target, student)
    return _Rows.apply(_nkd, student, teacher, index, gamma, tau, keep_target)


def _nkd(student, teacher, index, gamma, tau, keep_target, with_slope):
    q = teacher.softmax(-1).gather(-1, index)
    log_p = student.log_softmax(-1)
    loss = -q * log_p.gather(-1, index)
    student, teacher = student / tau, teacher / tau
    if not keep_target:
        student, teacher = (_without(x, index) for x in (student, teacher))
    others_s, others_t = student.log_softmax(-1), teacher.softmax(-1)
    loss -= gamma * tau**2 * (others_t * others_s).sum(-1, keepdim=True)
    if not with_slope:
        return loss, None
    slope = others_s.exp_().sub_(others_t).mul_(gamma * tau)
    slope.addcmul_(log_p.exp_(), q)
    return loss, slope.scatter_add_(-1, index, -q)


def _without(logits: Tensor, index: Tensor) -> Tensor:
    """Logits whose target class has probability 0 after a softmax.

    Half of the smallest number instead of -inf: 0 * -inf would be NaN.
    """
    return logits.scatter(-1, index, torch.finfo(logits.dtype).min / 2)


@full_precision
def dkd_loss(student: Tensor,
             teacher: Tensor,
             target: Tensor,
             alpha: float = 1.0,
             beta: float = 8.0,
             tau: float = 4.0) -> Tensor:
    r"""Decoupled knowledge distillation (Zhao et al., CVPR 2022).

    With :math:`q = \sigma(t/\tau)_y`, :math:`p = \sigma(s/\tau)_y` and
    :math:`\hat q, \hat p` the softmax of :math:`t/\tau, s/\tau` over the
    classes other than the target y:

    .. math::
        \tau^2 \left[ \alpha \left( q \ln\frac{q}{p} +
        (1-q) \ln\frac{1-q}{1-p} \right) + \beta\,
        KL(\hat q \,\|\, \hat p) \right]

    Its derivative by the student's logits is :math:`\tau \alpha (p - q)` for
    the target class and :math:`\tau [(\beta - \alpha (p - q)) \hat p_k -
    \beta \hat q_k]` for the others.

    ``alpha`` and ``beta`` are DKD's own; the paper's beta and gamma of
    equation 10 are ``consistent_weight`` and ``complementary_weight``.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K).
        target (Tensor): Labels, (...), or scores, (..., K), of which the
            largest marks the target.
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
    index = class_index(target, student)
    return _Rows.apply(_dkd, student, teacher, index, alpha, beta, tau)


class _Others(NamedTuple):
    """The softmax over the classes other than the target, (R, K).

    It is ``power / total``, with ``power = exponent.exp()``; both are 0 at the
    target. ``odds`` is the logarithm of p(target) / (1 - p(target)), (R, 1).
    """
    exponent: Tensor
    power: Tensor
    total: Tensor
    odds: Tensor


def _others(logits: Tensor, index: Tensor, tau: float) -> _Others:
    target = logits.gather(-1, index)
    exponent = logits.scatter(-1, index, -torch.inf)
    largest = exponent.amax(-1, keepdim=True)
    power = exponent.sub_(largest).div_(tau).exp()
    exponent.scatter_(-1, index, 0.)
    total = power.sum(-1, keepdim=True)
    return _Others(exponent, power, total,
                   (target - largest) / tau - total.log())


def _dkd(student, teacher, index, alpha, beta, tau, with_slope):
    student = _others(student, index, tau)
    teacher = _others(teacher, index, tau)
    odds = torch.stack([student.odds, teacher.odds])
    log_p, log_q, log_not_p, log_not_q = F.logsigmoid(torch.cat([odds, -odds]))
    q, not_q = log_q.exp(), log_not_q.exp()
    target_part = q * (log_q - log_p) + not_q * (log_not_q - log_not_p)
    # KL of two softmaxes by their exponents and totals
    cross = teacher.exponent.sub_(student.exponent).mul_(teacher.power)
    others_part = (
        cross.sum(-1, keepdim=True) / teacher.total -
        (teacher.total / student.total).log())
    loss = tau**2 * (alpha * target_part + beta * others_part)
    if not with_slope:
        return loss, None
    # p - q, without a difference of two numbers close to 1
    excess = alpha * (not_q * log_p.exp() - q * log_not_p.exp())
    slope = student.power.mul_(tau * (beta - excess) / student.total)
    slope.sub_(teacher.power.mul_(tau * beta / teacher.total))
    return loss, slope.scatter_(-1, index, tau * excess)


class _Rows(torch.autograd.Function):
    """Applies a row loss block by block and keeps its derivative.

    ``rows`` maps logits (R, K), (R, K), labels (R, 1), its own arguments, and
    whether the derivative is wanted to losses (R, 1) and derivatives (R, K).
    """

    @staticmethod
    def forward(ctx, rows, student, teacher, index, *args):
        shape, classes = student.shape, student.shape[-1]
        inputs = [x.reshape(-1, classes) for x in (student, teacher)]
        if index is not None:
            inputs.append(index.reshape(-1, 1))

        def block(student, teacher, index=None):
            return rows(student, teacher, index, *args,
                        ctx.needs_input_grad[1])

        blocks = 1
        if student.device.type == 'cpu' and not is_compiling():
            blocks = max(1, round(student.numel() / BLOCK))
        if blocks == 1:
            loss, slope = block(*inputs)
        else:
            size = -(-len(inputs[0]) // blocks)
            parts = map(block, *(x.split(size) for x in inputs))
            loss, slope = map(_joined, zip(*parts))
        if slope is not None:
            ctx.save_for_backward(slope.view(shape))
        return loss.view(shape[:-1])

    @staticmethod
    def backward(ctx, grad):
        # with create_graph=True, which would silently leave it out
        if torch.is_grad_enabled() and not is_compiling():
            raise RuntimeError('the row losses have no second derivative')
        slope, = ctx.saved_tensors
        rest = len(ctx.needs_input_grad) - 2
        return None, grad.unsqueeze(-1) * slope, *[None] * rest


def _joined(parts) -> Optional[Tensor]:
    return None if parts[0] is None else torch.cat(parts)
