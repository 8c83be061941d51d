# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Sequence

import torch
from mmengine.dataset import InfiniteSampler
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...functional._tensors import unit
from ...functional.feature_maps import shrink
from .base import DistillLossError, FeatureLoss, check_channels


@MODELS.register_module()
class SemanticCalibrationLoss(FeatureLoss):
    r"""Semantic calibration (SemCKD, Chen et al., AAAI 2021).

    Every map of the student is regressed to every map of the teacher, and
    attention decides per sample which pairs count:

    .. math::
        \frac{1}{B\,|S|} \sum_{b, i, j} \alpha^b_{ij}\, MSE(r_{ij}(s^b_i),
        t^b_j), \qquad \alpha^b_{i \cdot} = softmax_j(q^b_i \cdot k^b_j)

    Queries and keys are embeddings of how similar sample b is to the samples
    of the batch, so the batch size is fixed. The larger of two maps is
    averaged to the size of the smaller one.

    It learns one regressor per pair of maps, which are many: 648 million
    parameters for ResNet50 and ShuffleNetV1.

    Args:
        student_channels (Sequence[int]): Channels of the student's maps, from
            the shallowest.
        teacher_channels (Sequence[int]): Channels of the teacher's maps.
        batch_size (int): Samples per batch and process.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        ValueError: If ``batch_size`` is less than 4.
        DistillLossError: If a batch has another size, or the maps have other
            channels than these.

    Examples:
        >>> # in a config, with drop_last=True in train_dataloader
        >>> distill_losses = dict(
        ...     loss_semckd=dict(
        ...         type='SemanticCalibrationLoss',
        ...         student_channels=(240, 480, 960),
        ...         teacher_channels=(64, 128, 256),
        ...         batch_size=64,
        ...         loss_weight=400.))
    """

    def __init__(self,
                 student_channels: Sequence[int],
                 teacher_channels: Sequence[int],
                 batch_size: int,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if batch_size < 4:
            raise ValueError(f'batch_size must be at least 4, got {batch_size}'
                             ': samples are embedded in a fourth of it')
        self.student_channels = tuple(student_channels)
        self.teacher_channels = tuple(teacher_channels)
        self.batch_size = batch_size
        self.queries, self.keys = (
            nn.ModuleList(embedding(batch_size) for _ in channels)
            for channels in (student_channels, teacher_channels))
        self.regressors = nn.ModuleList(
            nn.ModuleList(
                regressor(ours, theirs) for theirs in teacher_channels)
            for ours in student_channels)

    def compute(self, student: Sequence[Tensor],
                teacher: Sequence[Tensor]) -> Tensor:
        check_channels(self, student, teacher)
        batch = len(student[0])
        self._check_batch(batch)
        teacher = [x.detach() for x in teacher]
        errors = self.errors(student, teacher)
        loss = (self.attention(student, teacher) * errors).sum()
        return loss / (batch * len(student))

    def _check_batch(self, batch: int) -> None:
        if batch != self.batch_size:
            raise DistillLossError(
                'SemanticCalibrationLoss was built for batches of '
                f'{self.batch_size} samples (its batch_size), got {batch}: '
                'set it to train_dataloader.batch_size, and '
                'train_dataloader.drop_last to True')

    def check_features(self, student: Sequence[Tensor],
                       teacher: Sequence[Tensor]) -> None:
        """Refuse maps with other channels."""
        check_channels(self, student, teacher)

    def check_loader(self, loader: DataLoader) -> None:
        """Refuse batches of another or of a changing size."""
        if loader.batch_size is None:  # a batch sampler may do anything
            return
        self._check_batch(loader.batch_size)
        rest = len(loader.sampler) % self.batch_size
        endless = isinstance(loader.sampler, InfiniteSampler)
        if rest and not (endless or loader.drop_last):
            self._check_batch(rest)

    def attention(self, student: Sequence[Tensor],
                  teacher: Sequence[Tensor]) -> Tensor:
        """Weight of every pair of maps, (B, student maps, teacher maps)."""
        queries, keys = (torch.stack(
            [unit(embed(gram(x))) for embed, x in zip(embeds, maps)], 1)
                         for embeds, maps in ((self.queries, student),
                                              (self.keys, teacher)))
        return (queries @ keys.transpose(1, 2)).softmax(-1)

    def errors(self, student: Sequence[Tensor],
               teacher: Sequence[Tensor]) -> Tensor:
        """Mean squared errors, (B, student maps, teacher maps)."""
        return torch.stack([
            torch.stack([
                error(regress, ours, theirs)
                for regress, theirs in zip(regressors, teacher)
            ], 1) for regressors, ours in zip(self.regressors, student)
        ], 1)


def embedding(batch_size: int) -> nn.Sequential:
    """What embeds a row of the similarities of a batch."""
    size = batch_size // 4
    return nn.Sequential(
        nn.Linear(batch_size, 2 * size), nn.ReLU(), nn.Linear(2 * size, size))


def regressor(in_channels: int, out_channels: int) -> nn.Sequential:
    """What makes a map of the teacher of one of the student."""
    width = 2 * out_channels
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width),
        nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, out_channels, 1, bias=False))


def gram(feature: Tensor) -> Tensor:
    """Inner products of the samples of a batch, (B, B)."""
    rows = feature.flatten(1)
    return rows @ rows.T


def error(regress: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of every sample, (B,)."""
    size = tuple(map(min, student.shape[2:], teacher.shape[2:]))
    student, teacher = shrink(student, size), shrink(teacher, size)
    return (regress(student) - teacher).square().flatten(1).mean(1)
