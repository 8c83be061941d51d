# Copyright (c) sdd_mm contributors. All rights reserved.
from .algorithms import *  # noqa: F401,F403
from .backbones import *  # noqa: F401,F403
from .classifiers import *  # noqa: F401,F403
from .connectors import *  # noqa: F401,F403
from .data_preprocessor import AsyncClsDataPreprocessor
from .distillers import *  # noqa: F401,F403
from .losses import *  # noqa: F401,F403
from .recorders import *  # noqa: F401,F403
from .records import FeatureHead, LocalLogits, RegionHead

__all__ = [
    'AsyncClsDataPreprocessor', 'FeatureHead', 'LocalLogits', 'RegionHead'
]
