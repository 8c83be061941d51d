# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Union

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import keep_ranked
from ...functional._tensors import check_choice, class_index
from ...functional.rotation_relations import VIEWS
from .base import RecordLoss

KINDS = ('normal', 'rotated')


@MODELS.register_module()
class ViewLoss(RecordLoss):
    """A loss over some of the views that ``RotationDistill`` makes.

    With ``LogitLoss`` inside these are two of SSKD's terms (Xu et al., ECCV
    2020). With ``ScaleDecoupledLoss`` inside they are SD-SSKD's: the paper has
    numbers of it (Table 1) and no definition, so this one is ours. With scales
    ``(1, )`` it is SSKD.

    Args:
        loss (dict | nn.Module): ``LogitLoss`` or ``ScaleDecoupledLoss``.
        views (str): 'normal', one view per image that is not rotated, or
            'rotated', the three others, with the label of their image.
            Defaults to 'normal'.
        ratio (float): Share of the views that the teacher classifies wrong
            that count, those with the best ranks, see
            :func:`sdd_mm.functional.keep_ranked`. Less than 1 waits for the
            device. Defaults to 1.0: all views count, as released.
        loss_weight (float): Weight of the loss, beside that of ``loss``.
            Defaults to 1.0.

    Raises:
        ValueError: If there are not four views per label, or ``views`` is
            something else.

    Examples:
        >>> # in a config
        >>> distill_losses = dict(
        ...     loss_rotated=dict(
        ...         type='ViewLoss',
        ...         views='rotated',
        ...         loss=dict(
        ...             type='LogitLoss',
        ...             criterion=dict(type='KDCriterion', tau=4.0)),
        ...         loss_weight=2.7))
    """

    def __init__(self,
                 loss: Union[dict, nn.Module],
                 views: str = 'normal',
                 ratio: float = 1.0,
                 loss_weight: float = 1.0) -> None:
        if isinstance(loss, dict):
            loss = MODELS.build(loss)
        super().__init__(loss.criterion, loss_weight)
        self.loss = loss
        self.views = check_choice('views', views, KINDS)
        if not 0 < ratio <= 1:
            raise ValueError('ratio must be more than 0 and at most 1, got '
                             f'{ratio!r}')
        self.ratio = ratio

    @property
    def grid(self):
        """Scales and pooling, or None, of the loss inside."""
        return self.loss.grid

    @property
    def asks_logits(self) -> bool:
        """Whether the loss inside needs the teacher's true logits."""
        return self.loss.asks_logits or self.ratio < 1

    def compute(self, student, teacher, target: Tensor) -> Tensor:
        count = student.num_samples
        if count != VIEWS * len(target):
            raise ValueError(
                f'ViewLoss got {count} views of {len(target)} labeled images, '
                "not 4 per image: set model.type='RotationDistill'")
        if self.views == 'normal':
            rows = slice(None, None, VIEWS)
        else:
            places = torch.arange(count, device=target.device)
            rows = places.view(-1, VIEWS)[:, 1:].flatten()
            target = target.repeat_interleave(VIEWS - 1, 0)
        student, teacher = student.samples(rows), teacher.samples(rows)
        if self.ratio < 1:
            logits = teacher.logits().detach()
            kept = keep_ranked(logits, class_index(target, logits), self.ratio)
            rows = kept.nonzero().flatten()
            student, teacher = student.samples(rows), teacher.samples(rows)
            target = target[rows]
        return self.loss(student, teacher, target)
