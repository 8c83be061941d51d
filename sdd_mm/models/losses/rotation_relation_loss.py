# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import keep_ranked, relation_loss, rotation_relations
from .base import FeatureLoss, check_channels


@MODELS.register_module()
class RotationRelationLoss(FeatureLoss):
    """SSKD's relations of rotated views (Xu et al., ECCV 2020).

    Each network's pooled features of four views per image are projected, and
    the student learns how similar the teacher's rotated views are to the
    images of the batch, see :func:`sdd_mm.functional.relation_loss`. Of the
    views whose most similar image is not their own, only the share ``ratio``
    with the best ranks counts.

    The teacher's projection is not trained here: it comes from a run of its
    own, of :class:`RotationHead`. ``RotationDistill`` loads it.

    Args:
        student_channels (int): Channels of the student's pooled features.
        teacher_channels (int): Channels of the teacher's.
        teacher_head (str, optional): Path of the checkpoint of the teacher's
            projection. Defaults to None, which ``RotationDistill`` refuses.
        ratio (float): Share of the wrong views that count, from 0 to 1.
            Defaults to 0.75.
        tau (float): Temperature. Defaults to 0.5.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        DistillLossError: If the features have other channels than these.

    Examples:
        >>> # in a config, of the pooled features of all views
        >>> distill_losses = dict(
        ...     loss_relation=dict(
        ...         type='RotationRelationLoss',
        ...         student_channels=1280,
        ...         teacher_channels=256,
        ...         teacher_head='work_dirs/sskd-head/epoch_60.pth',
        ...         loss_weight=10.))
    """

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 teacher_head: Optional[str] = None,
                 ratio: float = 0.75,
                 tau: float = 0.5,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.teacher_head = teacher_head
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.ratio = ratio
        self.tau = tau
        self.student_projection = projection(student_channels)
        self.teacher_projection = projection(teacher_channels)
        self.teacher_projection.requires_grad_(False)

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        check_channels(self, student, teacher)
        student = rotation_relations(
            self.student_projection(student.flatten(1)))
        teacher = rotation_relations(
            self.teacher_projection(teacher.detach().flatten(1)))
        own = torch.arange(len(teacher), device=teacher.device) // 3
        kept = keep_ranked(teacher, own, self.ratio)
        return relation_loss(student, teacher, kept, self.tau)

    def check_features(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse features with other channels."""
        check_channels(self, student, teacher)


def projection(channels: int) -> nn.Sequential:
    """What projects pooled features before they are related."""
    return nn.Sequential(
        nn.Linear(channels, channels), nn.ReLU(),
        nn.Linear(channels, channels))
