# Copyright (c) sdd_mm contributors. All rights reserved.
"""How much a cell counts, beside SDD's consistent and complementary weights.

Each maps local logits of student and teacher, (N, B, K), to factors, (N, B),
through which no gradient flows.
"""
import math
from typing import Optional

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional._tensors import check_positive

AGREEMENT = 'Agreement'
"""SDD's own weights alone."""


@MODELS.register_module()
class Reliability(nn.Module):
    r"""Sure cells count more (RSM, a follow-up of SDD of 2026).

    .. math:: f + (1 - f) \frac{\max_k \sigma(t / \tau)_k - 1 / K}{1 - 1 / K}

    Args:
        floor (float): Factor f of a cell of which the teacher knows nothing.
            Defaults to 0.2.
        tau (float): Temperature. Defaults to 4.0.

    Examples:
        >>> # in a config
        >>> loss_sdd = dict(
        ...     type='ScaleDecoupledLoss',
        ...     criterion=dict(type='KDCriterion'),
        ...     cell_weights=dict(type='Reliability', floor=0.2))
    """

    def __init__(self, floor: float = 0.2, tau: float = 4.0) -> None:
        super().__init__()
        if not 0 <= floor <= 1:
            raise ValueError(f'floor must be from 0 to 1, got {floor!r}')
        check_positive('tau', tau)
        self.floor, self.tau = floor, tau

    @torch.no_grad()
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Factors, (N, B)."""
        chance = 1 / teacher.shape[-1]
        best = (teacher / self.tau).softmax(-1).amax(-1)
        return self.floor + (1 - self.floor) * (best - chance) / (1 - chance)

    def extra_repr(self) -> str:
        return f'floor={self.floor}, tau={self.tau}'


@MODELS.register_module()
class Entropy(nn.Module):
    r"""Unsure cells count more (EA-KD, ICCV 2025).

    .. math:: H_t (1 + H_s / \ln K) / 2

    with the entropies of both networks at temperature tau, in nats.

    Args:
        tau (float): Temperature. Defaults to 3.0.

    Examples:
        >>> # in a config
        >>> loss_sdd = dict(
        ...     type='ScaleDecoupledLoss',
        ...     criterion=dict(type='KDCriterion'),
        ...     cell_weights=dict(type='Entropy'))
    """

    def __init__(self, tau: float = 3.0) -> None:
        super().__init__()
        check_positive('tau', tau)
        self.tau = tau

    @torch.no_grad()
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Factors, (N, B)."""
        own, theirs = (self._entropy(one) for one in (student, teacher))
        return theirs * (1 + own / math.log(student.shape[-1])) / 2

    def _entropy(self, logits: Tensor) -> Tensor:
        log_p = (logits / self.tau).log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)

    def extra_repr(self) -> str:
        return f'tau={self.tau}'


def build_cell_weights(config: Optional[dict]) -> Optional[nn.Module]:
    """The module of a config; None for SDD's own weights alone.

    Raises:
        ValueError: If it is of another type.
    """
    kind = AGREEMENT if config is None else config.get('type')
    if kind == AGREEMENT:
        return None
    known = dict(Reliability=Reliability, Entropy=Entropy)
    if kind not in (*known, *known.values()):
        raise ValueError(f'cell_weights must be of type {AGREEMENT!r}, '
                         f'{", ".join(map(repr, known))}, got {kind!r}')
    return MODELS.build(config)
