# Copyright (c) sdd_mm contributors. All rights reserved.
"""SDD as pure tensor functions, in the order of the paper's equations."""
from .closed_form import closed_dkd_loss, closed_kd_loss, closed_nkd_loss
from .criteria import dkd_loss, kd_loss, nkd_loss
from .local_logits import local_logits
from .pooling_plan import PoolingPlan, pooling_plan
from .scale_decoupled import cell_weights, scale_decoupled_loss

__all__ = [
    'PoolingPlan', 'pooling_plan', 'local_logits', 'kd_loss', 'dkd_loss',
    'nkd_loss', 'closed_kd_loss', 'closed_dkd_loss', 'closed_nkd_loss',
    'cell_weights', 'scale_decoupled_loss'
]
