# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Sequence, Tuple, Union

from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import scale_decoupled_loss
from ...functional.pooling_plan import check_pooling, check_scales, global_cell
from ...functional.scale_decoupled import (CONSISTENCIES, REDUCTIONS,
                                           check_choice, complementary_cells)
from .base import RecordLoss


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
                 loss_weight: float = 1.0) -> None:
        super().__init__(criterion, loss_weight)
        self.scales = check_scales(scales)
        self.pooling = check_pooling(pooling)
        self.consistency = check_choice('consistency', consistency,
                                        CONSISTENCIES)
        self.consistent_weight = consistent_weight
        self.complementary_weight = complementary_weight
        self.reduction = check_choice('reduction', reduction, REDUCTIONS)

    @property
    def grid(self) -> Tuple[Tuple[int, ...], str]:
        """Scales and pooling."""
        return self.scales, self.pooling

    @property
    def asks_logits(self) -> bool:
        """Whether the global verdict is not the first scale's own cell."""
        return self.pooling != 'hierarchical' or 1 not in self.scales

    def compute(self, student, teacher, target: Tensor) -> Tensor:
        local = teacher.local_logits(self.scales, self.pooling).detach()
        return scale_decoupled_loss(
            student.local_logits(self.scales, self.pooling),
            local,
            target,
            self.criterion,
            consistent_weight=self.consistent_weight,
            complementary_weight=self.complementary_weight,
            consistency=self.consistency,
            reduction=self.reduction,
            global_logits=self._global_logits(teacher, local))

    def complementary_cells(self, teacher, target: Tensor) -> Tensor:
        """Which cells the loss takes for complementary, bool (N, B).

        Args:
            teacher (FeatureHead | RegionHead | LocalLogits): The teacher's
                record.
            target (Tensor): Labels, (B,), or class scores, (B, K).
        """
        local = teacher.local_logits(self.scales, self.pooling).detach()
        return complementary_cells(local, target, self.consistency,
                                   self._global_logits(teacher, local))

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
                f'loss_weight={self.loss_weight}')
