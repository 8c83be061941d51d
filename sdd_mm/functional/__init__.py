# Copyright (c) sdd_mm contributors. All rights reserved.
"""The paper's equations, and those of its baselines, as tensor functions."""
from .contrastive import contrastive_loss, contrastive_scores
from .criteria import dkd_loss, kd_loss, nkd_loss
from .feature_maps import (hierarchical_context_loss, hint_loss,
                           masked_generation_loss)
from .local_logits import local_logits
from .refined import rld_loss
from .rotation_relations import keep_ranked, relation_loss, rotation_relations
from .sample_relations import pkt_loss, rkd_loss, similarity_loss
from .scale_decoupled import cell_weights, scale_decoupled_loss
from .standardize import standardize

__all__ = [
    'cell_weights', 'contrastive_loss', 'contrastive_scores', 'dkd_loss',
    'hierarchical_context_loss', 'hint_loss', 'kd_loss', 'keep_ranked',
    'local_logits', 'masked_generation_loss', 'nkd_loss', 'pkt_loss',
    'relation_loss', 'rkd_loss', 'rld_loss', 'rotation_relations',
    'scale_decoupled_loss', 'similarity_loss', 'standardize'
]
