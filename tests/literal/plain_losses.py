# Copyright (c) sdd_mm contributors. All rights reserved.
"""KD, DKD and NKD of many rows, (..., K), with autograd's own derivatives.

The target class is left out by its position, so that no number stands for
minus infinity. No gradient flows into the teacher.
"""
from torch import Tensor


def kd(student: Tensor, teacher: Tensor, label: Tensor, tau: float) -> Tensor:
    """Equation 1. The label is not used."""
    return tau**2 * kl((teacher.detach() / tau).log_softmax(-1),
                       (student / tau).log_softmax(-1))


def dkd(student: Tensor, teacher: Tensor, label: Tensor, alpha: float,
        beta: float, tau: float) -> Tensor:
    """alpha TCKD + beta NCKD, times tau squared."""
    index = label.unsqueeze(-1)
    student, teacher = student / tau, teacher.detach() / tau
    log_p, log_not_p = decoupled(student, index)
    log_q, log_not_q = decoupled(teacher, index)
    tckd = (
        log_q.exp() * (log_q - log_p) + log_not_q.exp() *
        (log_not_q - log_not_p))
    nckd = kl(
        others(teacher, index).log_softmax(-1),
        others(student, index).log_softmax(-1))
    return tau**2 * (alpha * tckd + beta * nckd)


def nkd(student: Tensor,
        teacher: Tensor,
        label: Tensor,
        gamma: float,
        tau: float,
        keep_target: bool = False) -> Tensor:
    """-T_y log S_y - gamma tau^2 sum N(T) log N(S)."""
    index, teacher = label.unsqueeze(-1), teacher.detach()
    target = (teacher.softmax(-1).gather(-1, index) *
              student.log_softmax(-1).gather(-1, index)).squeeze(-1)
    student, teacher = student / tau, teacher / tau
    if not keep_target:
        student, teacher = others(student, index), others(teacher, index)
    rest = (teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)
    return -target - gamma * tau**2 * rest


def kl(log_t: Tensor, log_s: Tensor) -> Tensor:
    """KL(t || s) over the last dimension, from log probabilities."""
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def others(logits: Tensor, index: Tensor) -> Tensor:
    """The logits of the classes other than the target, (..., K - 1)."""
    classes = index.new_tensor(range(logits.shape[-1] - 1))
    # classes after the target move down by one
    return logits.gather(-1, classes + (classes >= index))


def decoupled(logits: Tensor, index: Tensor):
    """Log p(target) and log (1 - p(target)), each (...)."""
    logits = logits - logits.amax(-1, keepdim=True).detach()
    total = logits.logsumexp(-1)
    return (logits.gather(-1, index).squeeze(-1) - total,
            others(logits, index).logsumexp(-1) - total)
