# Copyright (c) sdd_mm contributors. All rights reserved.
from .criteria import DKDCriterion, KDCriterion, NKDCriterion
from .logit_loss import LogitLoss
from .scale_decoupled_loss import ScaleDecoupledLoss

__all__ = [
    'DKDCriterion', 'KDCriterion', 'LogitLoss', 'NKDCriterion',
    'ScaleDecoupledLoss'
]
