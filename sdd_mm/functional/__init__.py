# Copyright (c) sdd_mm contributors. All rights reserved.
"""SDD as pure tensor functions, in the order of the paper's equations."""
from .criteria import dkd_loss, kd_loss, nkd_loss
from .local_logits import local_logits
from .scale_decoupled import cell_weights, scale_decoupled_loss

__all__ = [
    'cell_weights', 'dkd_loss', 'kd_loss', 'local_logits', 'nkd_loss',
    'scale_decoupled_loss'
]
