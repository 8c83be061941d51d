# Copyright (c) sdd_mm contributors. All rights reserved.
from .feature_head_recorder import FeatureHeadRecorder, RegionHeadRecorder
from .find_head import FeatureHeadError
from .target_recorder import TargetRecorder

__all__ = [
    'FeatureHeadError', 'FeatureHeadRecorder', 'RegionHeadRecorder',
    'TargetRecorder'
]
