# Copyright (c) sdd_mm contributors. All rights reserved.
from abc import ABCMeta, abstractmethod
from typing import Optional, Sequence, Tuple, Union

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...errors import SDDError
from ...functional._tensors import full_precision

Features = Union[Tensor, Sequence[Tensor]]


class DistillLossError(SDDError, ValueError):
    """A loss cannot be computed with what the config gives it."""


class WeightedLoss(nn.Module, metaclass=ABCMeta):
    """A distillation loss with a weight and a warm-up.

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        # what DistillWarmupHook sets; a tensor, so that a compiled step need
        # not be compiled anew when it changes
        self.register_buffer('warmup', torch.ones(()), persistent=False)

    def weighted(self, loss: Tensor) -> Tensor:
        """A loss times its weight and warm-up."""
        return (self.loss_weight * self.warmup) * loss

    def check_loader(self, loader: DataLoader) -> None:
        """Refuse batches that the loss cannot use, before training.

        Args:
            loader (DataLoader): The training dataloader.

        Raises:
            ValueError: If it yields such batches.
        """


class RecordLoss(WeightedLoss):
    """A distillation loss over the records of student and teacher.

    Args:
        criterion (dict | nn.Module): The loss of one row of logits:
            ``KDCriterion``, ``DKDCriterion``, ``NKDCriterion``, or any module
            that maps (..., K), (..., K) and (...) to (...).
        loss_weight (float): Weight of the loss. Defaults to 1.0.
        unlabeled_target (str, optional): 'teacher': the teacher's verdict is
            the label of images that have none. Defaults to None: there must
            be none, or nothing asks for it.
    """

    def __init__(self,
                 criterion: Union[dict, nn.Module],
                 loss_weight: float = 1.0,
                 unlabeled_target: Optional[str] = None) -> None:
        super().__init__(loss_weight)
        if isinstance(criterion, dict):
            criterion = MODELS.build(criterion)
        if unlabeled_target not in (None, 'teacher'):
            raise ValueError("unlabeled_target must be None or 'teacher', got "
                             f'{unlabeled_target!r}')
        self.criterion = criterion
        self.unlabeled_target = unlabeled_target

    @property
    def needs_labels(self) -> bool:
        """Whether it needs a label of every image."""
        return self.unlabeled_target is None and getattr(
            self.criterion, 'needs_labels', True)

    without_labels = 'take KDCriterion, which needs none'
    """What to set so that it needs none."""

    def verdict(self, teacher) -> Tensor:
        """The logits, (B, K), whose class is the teacher's verdict."""
        return teacher.logits().detach()

    def known(self, teacher, target: Tensor) -> Tensor:
        """Targets in which the teacher's verdict stands for missing labels.

        Args:
            teacher (FeatureHead | RegionHead | LocalLogits): Its record.
            target (Tensor): Labels, (B,), -1 where there is none, or class
                scores, (B, K).
        """
        if self.unlabeled_target is None or target.ndim != 1:
            return target
        return torch.where(target < 0,
                           self.verdict(teacher).argmax(-1), target)

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
        target = self.known(teacher, target)
        return self.weighted(self.compute(student, teacher, target))

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


class FeatureLoss(WeightedLoss):
    """A distillation loss over features of student and teacher.

    Features are what MMRazor's recorders yield. A loss computes in float32
    (float64 if given), with autocast disabled.

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """The weighted loss.

        Args:
            student (Tensor | Sequence[Tensor]): The student's features.
            teacher (Tensor | Sequence[Tensor]): The teacher's features. No
                gradient flows into them.

        Returns:
            Tensor: A scalar.
        """
        compute = full_precision(self.compute)
        return self.weighted(compute(student, teacher))

    def check_features(self, student: Features, teacher: Features) -> None:
        """Refuse features that the loss cannot use, before training.

        Args:
            student (Tensor | Sequence[Tensor]): The student's features of two
                images.
            teacher (Tensor | Sequence[Tensor]): The teacher's features.

        Raises:
            ValueError: If they do not fit.
        """
        self.compute(student, teacher)

    @abstractmethod
    def compute(self, student: Features, teacher: Features) -> Tensor:
        """The loss before its weights, a scalar."""


def check_channels(loss: nn.Module, student: Features,
                   teacher: Features) -> None:
    """Refuse features that a loss was not built for.

    Args:
        loss (nn.Module): It has ``student_channels`` and
            ``teacher_channels``: one number, or one per feature.
        student (Tensor | Sequence[Tensor]): The student's features.
        teacher (Tensor | Sequence[Tensor]): The teacher's features.
    """
    for role, features in (('student', student), ('teacher', teacher)):
        built = getattr(loss, f'{role}_channels')
        if isinstance(features, Tensor):
            found = features.shape[1]
        else:
            found = tuple(feature.shape[1] for feature in features)
        if found != built:
            raise DistillLossError(
                f'{type(loss).__name__}.{role}_channels is {built}, but the '
                f'features of the {role} have {found} channels: set it to '
                f'{found}, or record other features')
