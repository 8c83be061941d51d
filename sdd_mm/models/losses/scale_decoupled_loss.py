# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...functional._tensors import class_index
from ...functional.pooling_plan import check_pooling, check_scales, global_cell
from ...functional.scale_decoupled import (CONSISTENCIES, REDUCTIONS,
                                           check_choice, complementary_cells,
                                           reduce_rows, weighted_rows)
from .base import RecordLoss

CHUNK = 2**25
"""Local logits (N x B x K) that are there at a time, 128 MiB in float32."""
CASES = ('both_right', 'only_image_right', 'only_cell_right', 'both_wrong')
"""Where the teacher is right: on the image, on the cell."""


@MODELS.register_module()
class ScaleDecoupledLoss(RecordLoss):
    """Scale Decoupled Distillation (Wei et al., CVPR 2024).

    The logits of every cell of every scale are distilled, and cells that the
    teacher judges otherwise than the whole image weigh more (equations 6 to
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
        chunk_size (int, optional): Samples whose local logits are there at a
            time. The loss is the same; with fewer samples than the batch has,
            the forward pass of the loss runs again in the backward pass, so
            that only one chunk's logits take memory. Defaults to None: as
            many as have 2**25 local logits, which 1,000 classes and 21 cells
            pass from 1,598 samples on.

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
                 chunk_size: Optional[int] = None) -> None:
        super().__init__(criterion, loss_weight)
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
        # whether the next forward keeps what it is made of, and what it kept
        self.keep_parts = False
        self.parts: Dict[str, Tensor] = {}
        self._kept: Optional[list] = None

    @property
    def grid(self) -> Tuple[Tuple[int, ...], str]:
        """Scales and pooling."""
        return self.scales, self.pooling

    @property
    def asks_logits(self) -> bool:
        """Whether the global verdict is not the first scale's own cell."""
        return self.pooling != 'hierarchical' or 1 not in self.scales

    def compute(self, student, teacher, target: Tensor) -> Tensor:
        self._kept = [] if self.keep_parts else None
        loss = self._in_chunks(student, teacher, target)
        # not again when the backward pass repeats chunks
        kept, self._kept = self._kept, None
        if kept:
            self.parts = self._parts(kept)
        return loss

    def _in_chunks(self, student, teacher, target: Tensor) -> Tensor:
        batch = student.num_samples
        size = self._samples_at_a_time(student.num_classes
                                       or teacher.num_classes or 1)
        if batch <= size or not batch == teacher.num_samples == len(target):
            return self._compute(student, teacher, target)
        total = 0.
        for first in range(0, batch, size):
            end = min(first + size, batch)
            chunk = checkpoint(
                self._compute,
                student.samples(first, end),
                teacher.samples(first, end),
                target[first:end],
                use_reentrant=False,
                preserve_rng_state=False)
            # both reductions are means over the batch
            total = total + chunk * ((end - first) / batch)
        return total

    def _samples_at_a_time(self, classes: int) -> int:
        """How many samples' local logits may be there at a time."""
        if self.chunk_size is not None:
            return self.chunk_size
        cells = sum(m * m for m in self.scales)
        return max(1, CHUNK // (cells * classes))

    def _compute(self, student, teacher, target: Tensor) -> Tensor:
        local = teacher.local_logits(self.scales, self.pooling).detach()
        verdict = self._global_logits(teacher, local)
        rows = weighted_rows(
            student.local_logits(self.scales, self.pooling),
            local,
            target,
            self.criterion,
            consistent_weight=self.consistent_weight,
            complementary_weight=self.complementary_weight,
            consistency=self.consistency,
            global_logits=verdict)
        if self._kept is not None:
            label = class_index(target, verdict)
            mask = complementary_cells(local, target, self.consistency,
                                       verdict)
            self._kept.append(
                (rows.detach(), mask, local.argmax(dim=-1) == label,
                 (verdict.argmax(dim=-1) == label).expand_as(mask)))
        return reduce_rows(rows, self.reduction)

    def _parts(self, kept: list) -> Dict[str, Tensor]:
        """The loss by scale, and by kind of cell; shares of the cells.

        The parts of either split add up to the weighted loss. Where the
        teacher is right, on the image and on the cell, gives four cases.
        """
        rows, mask, cell, image = (
            torch.cat(found, dim=1) for found in zip(*kept))
        factor = self.loss_weight * self.warmup / rows.shape[1]
        if self.reduction == 'mean':
            factor = factor / rows.shape[0]
        cells = rows.sum(dim=1)
        by_scale = cells.split([m * m for m in self.scales])
        complementary = (rows * mask).sum()
        cases = (image & cell, image & ~cell, ~image & cell, ~image & ~cell)
        parts = {
            f'part_scale{m}': factor * part.sum()
            for m, part in zip(self.scales, by_scale)
        }
        parts.update(
            part_consistent=factor * (rows.sum() - complementary),
            part_complementary=factor * complementary,
            complementary=mask.float().mean())
        for name, case in zip(CASES, cases):
            parts[name] = case.float().mean()
        return parts

    def _global_logits(self, teacher, local: Tensor) -> Tensor:
        """The teacher's global verdict comes from these logits, (B, K).

        As released, hierarchical pooling takes scale 1's own cell, which is
        not the global average on 7 x 7 or 14 x 14 maps. Everywhere else they
        are the teacher's true logits.
        """
        if self.asks_logits:
            return teacher.logits().detach()
        return local[global_cell(self.scales)]

    def extra_repr(self) -> str:
        return (f'scales={self.scales}, pooling={self.pooling!r}, '
                f'consistency={self.consistency!r}, '
                f'consistent_weight={self.consistent_weight}, '
                f'complementary_weight={self.complementary_weight}, '
                f'reduction={self.reduction!r}, '
                f'loss_weight={self.loss_weight}, '
                f'chunk_size={self.chunk_size}')
