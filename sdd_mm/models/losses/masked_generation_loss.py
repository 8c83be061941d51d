# Copyright (c) sdd_mm contributors. All rights reserved.
import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import masked_generation_loss
from ...functional.feature_maps import shrink
from .base import DistillLossError, FeatureLoss, check_channels


@MODELS.register_module()
class MaskedGenerationLoss(FeatureLoss):
    """Masked generative distillation (Yang et al., ECCV 2022).

    For classification, as released: a random share of the channels of the
    student's last map is set to zero, and two convolutions generate the
    teacher's map from the rest, see
    :func:`sdd_mm.functional.masked_generation_loss`. If the numbers of
    channels differ, a 1 x 1 convolution adjusts the student's first.

    Args:
        student_channels (int): Channels of the student's map.
        teacher_channels (int): Channels of the teacher's map.
        mask_ratio (float): Share of the channels that are set to zero, from 0
            to 1. Defaults to 0.15.
        match_sizes (bool): Whether the larger of two maps is averaged to the
            size of the smaller one. The released code refuses maps of two
            sizes. Defaults to False.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        ValueError: If ``mask_ratio`` is not as above.
        DistillLossError: If the sizes of the maps differ without
            ``match_sizes``, or they have other channels than these.

    Examples:
        >>> # in a config, of the last maps
        >>> distill_losses = dict(
        ...     loss_mgd=dict(
        ...         type='MaskedGenerationLoss',
        ...         student_channels=960,
        ...         teacher_channels=2048,
        ...         loss_weight=7e-5))
    """

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 mask_ratio: float = 0.15,
                 match_sizes: bool = False,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if not 0 <= mask_ratio <= 1:
            raise ValueError(
                f'mask_ratio must be from 0 to 1, got {mask_ratio!r}')
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.mask_ratio = mask_ratio
        self.match_sizes = match_sizes
        self.align = nn.Identity()
        if student_channels != teacher_channels:
            self.align = nn.Conv2d(student_channels, teacher_channels, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1))

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        check_channels(self, student, teacher)
        if student.shape[2:] != teacher.shape[2:]:
            if not self.match_sizes:
                raise DistillLossError(
                    'MaskedGenerationLoss needs maps of one size, got '
                    f'{tuple(student.shape[2:])} of the student and '
                    f'{tuple(teacher.shape[2:])} of the teacher: set its '
                    'match_sizes=True to average the larger one')
            size = tuple(map(min, student.shape[2:], teacher.shape[2:]))
            student, teacher = shrink(student, size), shrink(teacher, size)
        student = self.align(student)
        return masked_generation_loss(
            self.generation(student * self.mask(student)), teacher)

    def mask(self, feature: Tensor) -> Tensor:
        """1 where a channel is kept, else 0, (B, C, 1, 1).

        Drawn from torch's default generator of the feature's device.
        """
        draw = torch.rand(*feature.shape[:2], 1, 1, device=feature.device)
        return (draw >= self.mask_ratio).to(feature.dtype)
