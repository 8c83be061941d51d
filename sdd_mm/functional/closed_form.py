# Copyright (c) sdd_mm contributors. All rights reserved.
"""The row losses with their gradients written out.

Same values as :mod:`.criteria`, for training: loss and derivative come from
one pass, and one tensor of the size of the student's logits, the derivative,
is kept for the backward pass. Two things are given up for that: no gradient
flows into the teacher, and the derivative cannot be differentiated again.
"""
from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._tensors import (check_logits, check_positive, class_index,
                       full_precision, is_compiling)

BLOCK = 2**19
"""Logits that a CPU takes at a time, so that they stay in its cache."""


@full_precision
def closed_kd_loss(student: Tensor,
                   teacher: Tensor,
                   tau: float = 4.0) -> Tensor:
    r""":func:`~sdd_mm.functional.kd_loss`, without a graph.

    With :math:`p = \sigma(s / \tau)` and :math:`q = \sigma(t / \tau)` the
    derivative by the student's logits is :math:`\tau (p - q)`.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K). No gradient flows into
            them.
        tau (float): Temperature. Defaults to 4.0.

    Returns:
        Tensor: One loss per row, (...).

    Raises:
        ValueError: If shapes differ, K < 2, or ``tau`` is not positive.
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    return _ClosedForm.apply(_kd, student, teacher, None, tau)


@full_precision
def closed_dkd_loss(student: Tensor,
                    teacher: Tensor,
                    target: Tensor,
                    alpha: float = 1.0,
                    beta: float = 8.0,
                    tau: float = 4.0) -> Tensor:
    r""":func:`~sdd_mm.functional.dkd_loss`, without a graph.

    With p and q the probabilities of the target class, and
    :math:`\hat p, \hat q` the distributions over the other classes, the
    derivative by the student's logits is :math:`\tau \alpha (p - q)` for the
    target and :math:`\tau [(\beta - \alpha (p - q)) \hat p_k - \beta \hat
    q_k]` for the others.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K). No gradient flows into
            them.
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
    index = class_index(target, student)
    return _ClosedForm.apply(_dkd, student, teacher, index, alpha, beta, tau)


@full_precision
def closed_nkd_loss(student: Tensor,
                    teacher: Tensor,
                    target: Tensor,
                    gamma: float = 1.5,
                    tau: float = 1.0,
                    keep_target: bool = False) -> Tensor:
    r""":func:`~sdd_mm.functional.nkd_loss`, without a graph.

    The derivative by the student's logits is :math:`\sigma(t)_y (\sigma(s)_k
    - [k = y]) + \gamma \tau (\hat p_k - \hat q_k)`, where :math:`\hat p, \hat
    q` are the distributions of the second term, 0 at a class that it drops.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K). No gradient flows into
            them.
        target (Tensor): Labels, (...), or scores, (..., K), which act through
            their argmax.
        gamma (float): Weight of the non-target part. Defaults to 1.5.
        tau (float): Temperature of the non-target part. Defaults to 1.0.
        keep_target (bool): Whether the second term runs over all classes.
            Defaults to False.

    Returns:
        Tensor: One loss per row, (...).

    Raises:
        ValueError: If shapes do not agree, K < 2, or ``tau`` is not positive.
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    index = class_index(target, student)
    return _ClosedForm.apply(_nkd, student, teacher, index, gamma, tau,
                             keep_target)


class _ClosedForm(torch.autograd.Function):
    """A row loss that knows its derivative.

    ``rows`` maps logits (R, K), (R, K), labels (R, 1), whether the derivative
    is wanted, and the loss's own arguments to losses (R, 1) and derivatives
    (R, K).
    """

    @staticmethod
    def forward(ctx, rows, student, teacher, index, *args):
        shape, classes = student.shape, student.shape[-1]
        wanted = ctx.needs_input_grad[1]
        student = student.reshape(-1, classes)
        teacher = teacher.reshape(-1, classes)
        if index is not None:
            index = index.reshape(-1, 1)
        size = len(student)
        if student.device.type == 'cpu' and not is_compiling():
            size = -(-size // max(1, round(student.numel() / BLOCK)))
        if len(student) <= size:
            loss, slope = rows(student, teacher, index, wanted, *args)
        else:
            loss = student.new_empty(len(student), 1)
            slope = torch.empty_like(student) if wanted else None
            for first in range(0, len(student), size):
                part = slice(first, first + size)
                block = rows(student[part], teacher[part],
                             None if index is None else index[part], wanted,
                             *args)
                loss[part] = block[0]
                if wanted:
                    slope[part] = block[1]
        if wanted:
            ctx.save_for_backward(slope.view(shape))
        return loss.view(shape[:-1])

    @staticmethod
    def backward(ctx, grad):
        # with create_graph=True; it would be left out without a word
        if torch.is_grad_enabled() and not is_compiling():
            raise RuntimeError(
                'the closed forms of the row losses have no second derivative:'
                ' take kd_loss, dkd_loss or nkd_loss')
        slope, = ctx.saved_tensors
        rest = len(ctx.needs_input_grad) - 2
        return None, grad.unsqueeze(-1) * slope, *[None] * rest


class _Softened(NamedTuple):
    """A softmax that is not divided yet: softmax = power / total.

    The target class is left out if its position was given: its power and its
    exponent are 0. Its own exponent is then in ``target``.
    """
    exponent: Tensor
    power: Tensor
    total: Tensor
    target: Optional[Tensor] = None

    @property
    def log_total(self) -> Tensor:
        return self.total.log()


def _soften(logits: Tensor,
            tau: float,
            left_out: Optional[Tensor] = None) -> _Softened:
    """exp((logits - largest) / tau), row by row."""
    if left_out is None:
        exponent = (logits - logits.amax(-1, keepdim=True)).div_(tau)
        power = exponent.exp()
        return _Softened(exponent, power, power.sum(-1, keepdim=True))
    target = logits.gather(-1, left_out)
    exponent = logits.scatter(-1, left_out, -torch.inf)
    largest = exponent.amax(-1, keepdim=True)
    power = exponent.sub_(largest).div_(tau).exp()
    exponent.scatter_(-1, left_out, 0.)
    return _Softened(exponent, power, power.sum(-1, keepdim=True),
                     (target - largest) / tau)


def _divergence(teacher: _Softened, student: _Softened) -> Tensor:
    """KL(teacher || student), (R, 1). The teacher's exponent is used up."""
    product = teacher.exponent.sub_(student.exponent).mul_(teacher.power)
    return (product.sum(-1, keepdim=True) / teacher.total - teacher.log_total +
            student.log_total)


def _kd(student, teacher, index, wanted, tau) -> Tuple[Tensor, Tensor]:
    student, teacher = _soften(student, tau), _soften(teacher, tau)
    loss = tau**2 * _divergence(teacher, student)
    if not wanted:
        return loss, None
    slope = student.power.mul_(tau / student.total)
    return loss, slope.sub_(teacher.power.mul_(tau / teacher.total))


def _dkd(student, teacher, index, wanted, alpha, beta,
         tau) -> Tuple[Tensor, Tensor]:
    student = _soften(student, tau, index)
    teacher = _soften(teacher, tau, index)
    log_p, log_not_p = _log_target(student)
    log_q, log_not_q = _log_target(teacher)
    q, not_q = log_q.exp(), log_not_q.exp()
    target_part = q * (log_q - log_p) + not_q * (log_not_q - log_not_p)
    loss = tau**2 * (
        alpha * target_part + beta * _divergence(teacher, student))
    if not wanted:
        return loss, None
    # p - q, without a difference of two numbers close to 1
    excess = alpha * (not_q * log_p.exp() - q * log_not_p.exp())
    slope = student.power.mul_(tau * (beta - excess) / student.total)
    slope.sub_(teacher.power.mul_(tau * beta / teacher.total))
    return loss, slope.scatter_(-1, index, tau * excess)


def _nkd(student, teacher, index, wanted, gamma, tau,
         keep_target) -> Tuple[Tensor, Tensor]:
    left_out = None if keep_target else index
    soft_s, soft_t = (
        _soften(logits, tau, left_out) for logits in (student, teacher))
    sharp_s, sharp_t = soft_s, soft_t
    if tau != 1:
        sharp_s, sharp_t = (
            _soften(logits, 1., left_out) for logits in (student, teacher))
    if keep_target:
        log_p, log_q = (
            soft.exponent.gather(-1, index) - soft.log_total
            for soft in (sharp_s, sharp_t))
    else:
        log_p, log_not_p = _log_target(sharp_s)
        log_q, _ = _log_target(sharp_t)
    q = log_q.exp()
    cross = (soft_t.power * soft_s.exponent).sum(-1, keepdim=True)
    loss = gamma * tau**2 * (soft_s.log_total - cross / soft_t.total)
    loss = loss - q * log_p
    if not wanted:
        return loss, None
    # the first term pulls the target up and pushes the powers down
    pull = q if keep_target else q * log_not_p.exp()
    push, soft_push = pull / sharp_s.total, gamma * tau / soft_s.total
    if tau == 1:
        slope = soft_s.power.mul_(push + soft_push)
    else:
        slope = sharp_s.power.mul_(push).add_(soft_s.power.mul_(soft_push))
    slope.sub_(soft_t.power.mul_(gamma * tau / soft_t.total))
    return loss, slope.scatter_add_(-1, index, -pull)


def _log_target(others: _Softened) -> Tuple[Tensor, Tensor]:
    """Log p(target) and log (1 - p(target)), each (R, 1)."""
    odds = others.target - others.log_total
    return F.logsigmoid(odds), F.logsigmoid(-odds)
