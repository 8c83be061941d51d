# Copyright (c) sdd_mm contributors. All rights reserved.
"""SDD written plainly: what the losses are timed against.

Vectorized over cells and samples, without loops and without reading anything
back from the device: softmax, logarithm, masks, and autograd.
"""
from typing import Callable, Dict, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def local_logits(feature: Tensor, weight: Tensor, bias: Tensor,
                 scales: Sequence[int]) -> Tensor:
    """Hierarchical pooling, then the classifier on every cell, (N, B, K)."""
    finest = F.adaptive_avg_pool2d(feature, 4)
    cells = [(finest if m == 4 else F.adaptive_avg_pool2d(
        finest if 4 % m == 0 else feature, m)).flatten(2) for m in scales]
    return F.linear(torch.cat(cells, dim=2).permute(2, 0, 1), weight, bias)


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence from the teacher, over the last dimension."""
    return F.kl_div(
        student.log_softmax(-1), teacher.softmax(-1), reduction='none').sum(-1)


def kd(student: Tensor, teacher: Tensor, target: Tensor, tau=4.0) -> Tensor:
    return tau**2 * kl(student / tau, teacher / tau)


def dkd(student: Tensor,
        teacher: Tensor,
        target: Tensor,
        alpha=1.0,
        beta=8.0,
        tau=4.0) -> Tensor:
    mask = F.one_hot(target, student.shape[-1])
    student, teacher = student / tau, teacher / tau
    p, q = student.softmax(-1), teacher.softmax(-1)
    p_target, q_target = (p * mask).sum(-1), (q * mask).sum(-1)
    p_rest, q_rest = (p * (1 - mask)).sum(-1), (q * (1 - mask)).sum(-1)
    target_part = (
        q_target * (q_target.log() - p_target.log()) + q_rest *
        (q_rest.log() - p_rest.log()))
    others_part = F.kl_div(
        F.log_softmax(student - 1000 * mask, dim=-1),
        F.log_softmax(teacher - 1000 * mask, dim=-1),
        reduction='none',
        log_target=True).sum(-1)
    return tau**2 * (alpha * target_part + beta * others_part)


def nkd(student: Tensor,
        teacher: Tensor,
        target: Tensor,
        gamma=1.5,
        tau=1.0) -> Tensor:
    mask = F.one_hot(target, student.shape[-1])
    p_target = (F.log_softmax(student, dim=-1) * mask).sum(-1)
    q_target = (F.softmax(teacher, dim=-1) * mask).sum(-1)
    log_p = F.log_softmax(student / tau - 1000 * mask, dim=-1)
    q = F.softmax(teacher / tau - 1000 * mask, dim=-1)
    return -q_target * p_target - gamma * tau**2 * (q * log_p).sum(-1)


ROWS: Dict[str, Callable] = dict(KD=kd, DKD=dkd, NKD=nkd)


def scale_decoupled(student: Tensor, teacher: Tensor, target: Tensor,
                    rows: Callable) -> Tensor:
    """Rows of local logits (N, B, K), weighted and averaged."""
    target = target.expand(student.shape[:2])
    right = teacher.argmax(-1) == target
    weights = torch.where(right == right[0], 1.0, 2.0)
    return (weights * rows(student, teacher, target)).mean()
