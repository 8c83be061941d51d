# Copyright (c) sdd_mm contributors. All rights reserved.
from .base import DistillLossError
from .cell_weights import Entropy, Reliability
from .contrastive_loss import ContrastiveLoss
from .criteria import DKDCriterion, KDCriterion, NKDCriterion, RLDCriterion
from .feature_losses import HintLoss, PKTLoss, RelationalLoss, SimilarityLoss
from .logit_loss import LogitLoss
from .masked_generation_loss import MaskedGenerationLoss
from .review_loss import ReviewLoss
from .rotation_relation_loss import RotationRelationLoss
from .scale_decoupled_loss import ScaleDecoupledLoss
from .semantic_calibration_loss import SemanticCalibrationLoss
from .view_loss import ViewLoss

__all__ = [
    'ContrastiveLoss', 'DKDCriterion', 'DistillLossError', 'Entropy',
    'HintLoss', 'KDCriterion', 'LogitLoss', 'MaskedGenerationLoss',
    'NKDCriterion', 'PKTLoss', 'RLDCriterion', 'RelationalLoss', 'Reliability',
    'ReviewLoss', 'RotationRelationLoss', 'ScaleDecoupledLoss',
    'SemanticCalibrationLoss', 'SimilarityLoss', 'ViewLoss'
]
