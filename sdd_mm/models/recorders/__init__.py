# Copyright (c) sdd_mm contributors. All rights reserved.
from .ensemble_recorder import EnsembleRecorder
from .feature_head_recorder import FeatureHeadRecorder
from .find_head import FeatureHeadError
from .find_stages import StageError
from .image_index_recorder import ImageIndexRecorder
from .logits_recorder import LogitsRecorder
from .region_head_recorder import RegionHeadRecorder
from .stage_maps_recorder import StageMapsRecorder
from .target_recorder import TargetRecorder

__all__ = [
    'EnsembleRecorder', 'FeatureHeadError', 'FeatureHeadRecorder',
    'ImageIndexRecorder', 'LogitsRecorder', 'RegionHeadRecorder', 'StageError',
    'StageMapsRecorder', 'TargetRecorder'
]
