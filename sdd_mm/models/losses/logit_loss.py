# Copyright (c) sdd_mm contributors. All rights reserved.
from mmrazor.registry import MODELS
from torch import Tensor

from ...functional._tensors import class_index
from .base import RecordLoss


@MODELS.register_module()
class LogitLoss(RecordLoss):
    """Distillation of the true global logits: the baseline M = {1}.

    The mean of the criterion over the batch (equation 1). See
    :class:`RecordLoss` for the arguments.

    Examples:
        >>> # in a config
        >>> distill_losses = dict(
        ...     loss_kd=dict(
        ...         type='LogitLoss',
        ...         criterion=dict(type='KDCriterion', tau=4.0),
        ...         loss_weight=0.9))
    """

    grid = None
    asks_logits = True

    def compute(self, student, teacher, target: Tensor) -> Tensor:
        student, teacher = student.logits(), teacher.logits().detach()
        label = class_index(target, student)
        if len(student) == 0:
            raise ValueError('no sample to distill: logits of shape '
                             f'{tuple(student.shape)}')
        return self.criterion(student, teacher, label).mean()
