# Copyright (c) sdd_mm contributors. All rights reserved.
r"""Refined logit distillation (Sun et al., ICCV 2025)."""
import torch
from torch import Tensor

from ._tensors import check_logits, check_positive, class_index, full_precision


@full_precision
def rld_loss(student: Tensor,
             teacher: Tensor,
             target: Tensor,
             alpha: float = 1.0,
             beta: float = 8.0,
             tau: float = 4.0,
             tau_confidence: float = 1.0) -> Tensor:
    r"""Refined logit distillation: DKD where the teacher may be wrong.

    .. math::
        \alpha \tau_c^2\, KL\bigl((\max_k \sigma(t/\tau_c)_k,\, rest) \,\|\,
        (\sigma(s/\tau_c)_y,\, rest)\bigr) + \beta \tau^2\, KL\bigl(
        \sigma_R(t/\tau) \,\|\, \sigma_R(s/\tau)\bigr), \quad
        R = \{k : t_k < t_y\}

    The student takes over how sure the teacher is, but of the true class, and
    how the teacher ranks what it puts below the true class. With the teacher
    right and ``tau_confidence == tau`` it is DKD.

    Args:
        student (Tensor): Student logits, (..., K).
        teacher (Tensor): Teacher logits, (..., K).
        target (Tensor): Labels, (...), or scores, (..., K), of which the
            largest marks the target.
        alpha (float): Weight of the first part. Defaults to 1.0.
        beta (float): Weight of the second part. Defaults to 8.0, as released.
        tau (float): Temperature of the second part. Defaults to 4.0.
        tau_confidence (float): Temperature of the first part. Defaults to
            1.0.

    Returns:
        Tensor: One loss per row, (...). The second part is 0 where the
        teacher puts nothing below the target.

    Raises:
        ValueError: If shapes do not agree, K < 2, or a temperature is not
            positive.
    """
    check_logits(student, teacher)
    check_positive('tau', tau)
    check_positive('tau_confidence', tau_confidence)
    teacher = teacher.detach()
    index = class_index(target, student).unsqueeze(-1)
    sure = _sureness(student / tau_confidence, index)
    best = teacher.argmax(-1, keepdim=True)
    wanted = _sureness(teacher / tau_confidence, best)
    loss = alpha * tau_confidence**2 * _divergence(wanted, sure)

    below = teacher < teacher.gather(-1, index)
    some = below.any(-1)
    kept = below | ~some.unsqueeze(-1)  # no row without a class
    p, q = ((x / tau).masked_fill(~kept,
                                  float('-inf')).log_softmax(-1).masked_fill(
                                      ~kept, 0) for x in (student, teacher))
    rest = (q.exp() * kept * (q - p)).sum(-1)
    return loss + beta * tau**2 * rest * some


def _sureness(logits: Tensor, index: Tensor) -> Tensor:
    """Logarithms of a class's share and of the rest, (..., 2)."""
    others = logits.scatter(-1, index, float('-inf'))
    pair = logits.gather(-1, index), others.logsumexp(-1, keepdim=True)
    return torch.cat(pair, -1).log_softmax(-1)


def _divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) of the last dimension."""
    return (log_q.exp() * (log_q - log_p)).sum(-1)
