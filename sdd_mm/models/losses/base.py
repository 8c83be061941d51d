# Copyright (c) sdd_mm contributors. All rights reserved.
from abc import ABCMeta, abstractmethod
from typing import Optional, Tuple, Union

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn


class RecordLoss(nn.Module, metaclass=ABCMeta):
    """A distillation loss over the records of student and teacher.

    Args:
        criterion (dict | nn.Module): The loss of one row of logits:
            ``KDCriterion``, ``DKDCriterion``, ``NKDCriterion``, or any module
            that maps (..., K), (..., K) and (...) to (...).
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    def __init__(self,
                 criterion: Union[dict, nn.Module],
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        if isinstance(criterion, dict):
            criterion = MODELS.build(criterion)
        self.criterion = criterion
        self.loss_weight = loss_weight
        # what DistillWarmupHook sets; a tensor, so that a compiled step need
        # not be compiled anew when it changes
        self.register_buffer('warmup', torch.ones(()), persistent=False)

    def forward(self, student, teacher, target: Tensor) -> Tensor:
        """The weighted loss.

        Args:
            student (FeatureHead | RegionHead | LocalLogits): The student's
                record.
            teacher (FeatureHead | RegionHead | LocalLogits): The teacher's
                record. No gradient flows into it.
            target (Tensor): Labels, (B,), or class scores, (B, K).

        Returns:
            Tensor: A scalar.
        """
        return (self.loss_weight * self.warmup) * self.compute(
            student, teacher, target)

    @property
    @abstractmethod
    def grid(self) -> Optional[Tuple[Tuple[int, ...], str]]:
        """Scales and pooling of the local logits that it needs, or None."""

    @property
    @abstractmethod
    def asks_logits(self) -> bool:
        """Whether it needs the true logits of the teacher's record."""

    @abstractmethod
    def compute(self, student, teacher, target: Tensor) -> Tensor:
        """The loss before its weights, a scalar."""
