# Copyright (c) sdd_mm contributors. All rights reserved.
from functools import partial
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...functional import scale_decoupled_loss
from ...functional._tensors import check_choice, class_index
from ...functional.local_logits import check_pooling, check_scales, global_cell
from ...functional.scale_decoupled import (CONSISTENCIES, REDUCTIONS,
                                           complementary_cells)
from .base import RecordLoss
from .cell_weights import build_cell_weights

CHUNK = 2**25
"""Local logits (N x B x K) in memory at a time, 128 MiB in float32."""


class CellRows(NamedTuple):
    """A loss before its reduction.

    Args:
        loss (Tensor): Weighted loss of every cell and sample, (N, B).
        complementary (Tensor): Whether the cell is complementary, (N, B).
        cell_right (Tensor): Whether the teacher classifies the cell as the
            label, (N, B).
        image_right (Tensor): Whether it classifies the image so, (B,).
        labeled (Tensor): Whether the image has a label, (B,).
    """
    loss: Tensor
    complementary: Tensor
    cell_right: Tensor
    image_right: Tensor
    labeled: Tensor


@MODELS.register_module()
class ScaleDecoupledLoss(RecordLoss):
    """Scale Decoupled Distillation (Wei et al., CVPR 2024).

    Distills the logits of every cell of every scale. Cells that the teacher
    classifies differently from the whole image weigh more (equations 6 to
    10). With ``KDCriterion`` this is SD-KD, with ``DKDCriterion`` SD-DKD, with
    ``NKDCriterion`` SD-NKD.

    The defaults are what the authors released. The paper's equations are
    ``pooling='direct', consistency='class', reduction='sum'``.

    Args:
        criterion (dict | nn.Module): The loss of one row of logits.
        scales (Sequence[int]): The scale set M. Defaults to (1, 2, 4).
        pooling (str): 'hierarchical' or 'direct', see
            :func:`sdd_mm.functional.local_logits`. Defaults to
            'hierarchical'.
        consistency (str): 'label' or 'class', see
            :func:`sdd_mm.functional.cell_weights`. Defaults to 'label'.
        consistent_weight (float): Weight of consistent cells, the paper's
            beta. Defaults to 1.0.
        complementary_weight (float): Weight of complementary cells, the
            paper's gamma. Defaults to 2.0.
        reduction (str): 'mean' over cells and batch, or 'sum' over cells and
            mean over the batch. Defaults to 'mean'.
        loss_weight (float): Weight of the loss, the paper's alpha. Defaults
            to 1.0.
        chunk_size (int, optional): Samples whose local logits are in memory
            at a time. The loss is the same. If the batch has more samples,
            the forward pass of the loss runs again in the backward pass.
            Defaults to None: 2**25 local logits, which is 1,597 samples for
            1,000 classes and 21 cells.
        unlabeled_target (str, optional): See :class:`RecordLoss`. Defaults to
            None.
        cell_weights (dict, optional): A further factor of every cell:
            ``dict(type='Reliability')`` or ``dict(type='Entropy')``. Defaults
            to None, as ``dict(type='Agreement')``: the two weights above.

    Raises:
        ValueError: If the scales or a choice is not one of the above.

    Examples:
        >>> # in a config
        >>> distill_losses = dict(
        ...     loss_sdd=dict(
        ...         type='ScaleDecoupledLoss',
        ...         criterion=dict(type='DKDCriterion', beta=8.0, tau=4.0),
        ...         scales=(1, 2, 4)))
    """

    def __init__(self,
                 criterion: Union[dict, nn.Module],
                 scales: Sequence[int] = (1, 2, 4),
                 pooling: str = 'hierarchical',
                 consistency: str = 'label',
                 consistent_weight: float = 1.0,
                 complementary_weight: float = 2.0,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 chunk_size: Optional[int] = None,
                 unlabeled_target: Optional[str] = None,
                 cell_weights: Optional[dict] = None) -> None:
        super().__init__(criterion, loss_weight, unlabeled_target)
        self.cell_weights = build_cell_weights(cell_weights)
        self.scales = check_scales(scales)
        if len(set(self.scales)) < len(self.scales):
            raise ValueError('scales must be different, such as (1, 2, 4), '
                             f'got {scales!r}')
        self.pooling = check_pooling(pooling)
        self.consistency = check_choice('consistency', consistency,
                                        CONSISTENCIES)
        if chunk_size is not None and (type(chunk_size) is not int
                                       or chunk_size < 1):
            raise ValueError('chunk_size must be a positive integer or None, '
                             f'got {chunk_size!r}')
        self.consistent_weight = consistent_weight
        self.complementary_weight = complementary_weight
        self.reduction = check_choice('reduction', reduction, REDUCTIONS)
        self.chunk_size = chunk_size

    @property
    def needs_labels(self) -> bool:
        """Whether the criterion or the rule for cells asks for the label."""
        return super().needs_labels or (self.unlabeled_target is None
                                        and self.consistency == 'label')

    without_labels = "take KDCriterion and consistency='class'"

    def verdict(self, teacher) -> Tensor:
        """The logits, (B, K), that cells are compared with."""
        return self._teacher_logits(teacher)[1]

    @property
    def grid(self) -> Tuple[Tuple[int, ...], str]:
        """Scales and pooling."""
        return self.scales, self.pooling

    @property
    def asks_logits(self) -> bool:
        """Whether the teacher's verdict is not that of scale 1's own cell.

        As released, hierarchical pooling takes that cell, which is not the
        global average on 7 x 7 or 14 x 14 maps.
        """
        return self.pooling != 'hierarchical' or 1 not in self.scales

    def compute(self, student, teacher, target: Tensor) -> Tensor:
        batch = student.num_samples
        loss, size = self._loss, self._chunk_size(student, teacher)
        if batch <= size or not batch == teacher.num_samples == len(target):
            return loss(student, teacher, target)
        # computed again in the backward pass, so that one chunk takes memory
        loss = partial(
            checkpoint, loss, use_reentrant=False, preserve_rng_state=False)
        # both reductions are means over the batch
        return sum(
            loss(*chunk) * (len(chunk[-1]) / batch)
            for chunk in _chunks(size, student, teacher, target))

    @torch.no_grad()
    def rows(self, student, teacher, target: Tensor) -> CellRows:
        """The weighted loss of every cell and sample, for a report.

        Args:
            student (FeatureHead | RegionHead | LocalLogits): As in
                ``forward``.
            teacher (FeatureHead | RegionHead | LocalLogits): As in
                ``forward``.
            target (Tensor): Labels, (B,), or class scores, (B, K).

        Returns:
            CellRows: The loss is their reduction.
        """
        size = self._chunk_size(student, teacher)
        target = self.known(teacher, target)
        found = [
            self._rows(*chunk)
            for chunk in _chunks(size, student, teacher, target)
        ]
        return CellRows(*(torch.cat(part, -1) for part in zip(*found)))

    def _rows(self, student, teacher, target: Tensor) -> CellRows:
        local, verdict = self._teacher_logits(teacher)
        label = class_index(target, verdict)
        return CellRows(
            self._loss(student, teacher, target, 'none'),
            complementary_cells(local, target, self.consistency, verdict),
            local.argmax(-1) == label,
            verdict.argmax(-1) == label, label >= 0)

    def _loss(self,
              student,
              teacher,
              target: Tensor,
              reduction: Optional[str] = None) -> Tensor:
        local, verdict = self._teacher_logits(teacher)
        return scale_decoupled_loss(
            student.local_logits(self.scales, self.pooling),
            local,
            target,
            self.criterion,
            consistent_weight=self.consistent_weight,
            complementary_weight=self.complementary_weight,
            consistency=self.consistency,
            reduction=reduction or self.reduction,
            global_logits=verdict,
            factor=self.cell_weights)

    def _teacher_logits(self, teacher) -> Tuple[Tensor, Tensor]:
        """The teacher's local logits and those of its verdict, (B, K)."""
        local = teacher.local_logits(self.scales, self.pooling).detach()
        if self.asks_logits:
            return local, teacher.logits().detach()
        return local, local[global_cell(self.scales)]

    def _chunk_size(self, student, teacher) -> int:
        """Samples whose local logits are in memory at a time."""
        cells = sum(m * m for m in self.scales)
        classes = student.num_classes or teacher.num_classes or 1
        return self.chunk_size or max(1, CHUNK // (cells * classes))

    def extra_repr(self) -> str:
        return (f'scales={self.scales}, pooling={self.pooling!r}, '
                f'consistency={self.consistency!r}, '
                f'consistent_weight={self.consistent_weight}, '
                f'complementary_weight={self.complementary_weight}, '
                f'reduction={self.reduction!r}, '
                f'loss_weight={self.loss_weight}, '
                f'chunk_size={self.chunk_size}')


def _chunks(size: int, student, teacher, target: Tensor) -> Iterator[tuple]:
    """Records and targets of ``size`` samples at a time."""
    for start in range(0, len(target), size):
        rows = slice(start, start + size)
        yield student.samples(rows), teacher.samples(rows), target[rows]
