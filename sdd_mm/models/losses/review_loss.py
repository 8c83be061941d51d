# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional, Sequence, Tuple

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import hierarchical_context_loss
from ._shallow_fusion import can_factorize, fuse_and_convolve, pointwise
from .base import DistillLossError, FeatureLoss, check_channels


@MODELS.register_module()
class ReviewLoss(FeatureLoss):
    """Knowledge review (ReviewKD, Chen et al., CVPR 2021).

    From the deepest map to the shallowest, the student's map is fused with
    what was made of the deeper ones, and compared with the teacher's map of
    the same stage by
    :func:`sdd_mm.functional.hierarchical_context_loss`; the loss is the sum
    over the stages.

    As released, the maps of the student are those after the activation, those
    of the teacher before it, and the pooled features, (B, C), come last on
    both sides.

    Args:
        student_channels (Sequence[int]): Channels of the student's maps, from
            the shallowest to the pooled features.
        teacher_channels (Sequence[int]): Channels of the teacher's.
        max_channels (int): The most channels of the fused maps. Defaults to
            512.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        DistillLossError: If student and teacher have different numbers of
            maps, or other channels than these.

    Examples:
        >>> # in a config: resnet32x4 and ShuffleNetV1
        >>> distill_losses = dict(
        ...     loss_review=dict(
        ...         type='ReviewLoss',
        ...         student_channels=(240, 480, 960, 960),
        ...         teacher_channels=(64, 128, 256, 256),
        ...         loss_weight=5.))
    """

    def __init__(self,
                 student_channels: Sequence[int],
                 teacher_channels: Sequence[int],
                 max_channels: int = 512,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if len(student_channels) != len(teacher_channels):
            raise DistillLossError(
                'ReviewLoss compares stage by stage, but the student has '
                f'{len(student_channels)} maps and the teacher has '
                f'{len(teacher_channels)}: name as many modules of both by '
                '`sources` of StageMaps in model.distiller.student_recorders '
                'and teacher_recorders, or use another method')
        self.student_channels = tuple(student_channels)
        self.teacher_channels = tuple(teacher_channels)
        channels = min(max_channels, student_channels[-1])
        deepest = len(student_channels) - 1
        self.fusions = nn.ModuleList(
            Fusion(ours, channels, theirs, fuses=stage < deepest) for stage, (
                ours,
                theirs) in enumerate(zip(student_channels, teacher_channels)))

    def compute(self, student: Sequence[Tensor],
                teacher: Sequence[Tensor]) -> Tensor:
        check_channels(self, student, teacher)
        teacher = [as_map(x) for x in teacher]
        sizes = [x.shape[2:] for x in teacher]
        return sum(
            hierarchical_context_loss(*pair)
            for pair in zip(self.review(student, sizes), teacher))

    def review(self, student: Sequence[Tensor],
               sizes: Sequence[Tuple[int, int]]) -> Sequence[Tensor]:
        """The student's maps, fused and in the shapes of the teacher's.

        Args:
            student (Sequence[Tensor]): From the shallowest to the pooled
                features.
            sizes (Sequence[tuple[int, int]]): Sizes of the teacher's maps.

        Returns:
            list[Tensor]: In the same order.
        """
        reviewed, deeper = [], None
        stages = list(zip(self.fusions, student, sizes))
        for fusion, feature, size in reversed(stages):
            output, deeper = fusion(
                as_map(feature),
                deeper,
                size,
                handed_on=fusion is not self.fusions[0])
            reviewed.append(output)
        return reviewed[::-1]


class Fusion(nn.Module):
    """Attention-based fusion of a map with what comes from the deeper ones.

    Args:
        in_channels (int): Channels of the map.
        channels (int): Channels of the fused map.
        out_channels (int): Channels of the teacher's map.
        fuses (bool): Whether there is a deeper map.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int,
                 fuses: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels))
        self.expand = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels))
        self.attend = nn.Conv2d(2 * channels, 2, 1) if fuses else None
        for layer in (self.reduce[0], self.expand[0]):
            nn.init.kaiming_uniform_(layer.weight, a=1)

    def forward(self,
                feature: Tensor,
                deeper: Optional[Tensor],
                size: Tuple[int, int],
                handed_on: bool = True) -> Tuple[Tensor, Optional[Tensor]]:
        """The map in the teacher's shape, and the fused map.

        If the fused map is not handed on, it may be None.
        """
        if not handed_on and can_factorize(self, feature, deeper, size):
            convolved = fuse_and_convolve(self, feature, deeper)
            return self.expand[1](convolved), None
        fused = self.reduce(feature)
        if self.attend is not None:
            inside = fused.shape[2:]
            # attend() of both maps, without joining them, and of the deeper
            # one before it is enlarged
            weight = self.attend.weight.flatten(1)
            ours, theirs = weight.split(fused.shape[1], 1)
            below = pointwise(theirs, deeper) + self.attend.bias[:, None, None]
            attention = (pointwise(ours, fused) +
                         resize(below, inside)).sigmoid()
            deeper = resize(deeper, inside)
            fused = fused * attention[:, :1] + deeper * attention[:, 1:]
        fused = resize(fused, size)
        return self.expand(fused), fused


def as_map(feature: Tensor) -> Tensor:
    """Pooled features, (B, C), as a map, (B, C, 1, 1)."""
    return feature[..., None, None] if feature.ndim == 2 else feature


def resize(feature: Tensor, size: Tuple[int, int]) -> Tensor:
    """A map in another size, by the nearest position."""
    if feature.shape[2:] == size:
        return feature
    (height, width), (own, across) = size, feature.shape[2:]
    if height % own == 0 and width % across == 0:
        # the same, in half the time on a CPU
        tall = feature[:, :, :, None, :,
                       None].expand(-1, -1, -1, height // own, -1,
                                    width // across)
        return tall.reshape(*feature.shape[:2], *size)
    return F.interpolate(feature, size, mode='nearest')
