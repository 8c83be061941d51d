# Copyright (c) sdd_mm contributors. All rights reserved.
"""Losses over one pair of features that learn nothing."""
from mmrazor.registry import MODELS
from torch import Tensor

from ...functional import hint_loss, pkt_loss, rkd_loss, similarity_loss
from ...functional.feature_maps import shrink
from .base import FeatureLoss


@MODELS.register_module()
class HintLoss(FeatureLoss):
    """FitNet's loss, see :func:`sdd_mm.functional.hint_loss`.

    The student's map needs the teacher's shape: ``ConvRegressor`` gives it. A
    teacher's map that is larger all the same is averaged to the student's
    size.

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Examples:
        >>> # in a config
        >>> connectors = dict(
        ...     hint=dict(
        ...         type='ConvRegressor',
        ...         student_shape=(128, 16, 16),
        ...         teacher_shape=(128, 16, 16)))
        >>> distill_losses = dict(
        ...     loss_hint=dict(type='HintLoss', loss_weight=100.))
    """

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.ndim == teacher.ndim == 4:
            size, larger = student.shape[2:], teacher.shape[2:]
            if size != larger and all(a <= b for a, b in zip(size, larger)):
                teacher = shrink(teacher.detach(), size)
        return hint_loss(student, teacher)


@MODELS.register_module()
class RelationalLoss(FeatureLoss):
    """RKD's loss, see :func:`sdd_mm.functional.rkd_loss`.

    Args:
        distance_weight (float): Weight of the distances. Defaults to 25.0.
        angle_weight (float): Weight of the angles. Defaults to 50.0.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Examples:
        >>> # in a config, of the pooled features
        >>> distill_losses = dict(loss_rkd=dict(type='RelationalLoss'))
    """

    def __init__(self,
                 distance_weight: float = 25.0,
                 angle_weight: float = 50.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        return rkd_loss(student, teacher, self.distance_weight,
                        self.angle_weight)


@MODELS.register_module()
class SimilarityLoss(FeatureLoss):
    """SP's loss, see :func:`sdd_mm.functional.similarity_loss`.

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Examples:
        >>> # in a config, of the last maps
        >>> distill_losses = dict(
        ...     loss_sp=dict(type='SimilarityLoss', loss_weight=3000.))
    """

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        return similarity_loss(student, teacher)


@MODELS.register_module()
class PKTLoss(FeatureLoss):
    """PKT's loss, see :func:`sdd_mm.functional.pkt_loss`.

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Examples:
        >>> # in a config, of the pooled features
        >>> distill_losses = dict(
        ...     loss_pkt=dict(type='PKTLoss', loss_weight=30000.))
    """

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        return pkt_loss(student, teacher)
