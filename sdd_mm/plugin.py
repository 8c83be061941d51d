# Copyright (c) sdd_mm contributors. All rights reserved.
"""All that `import sdd_mm` does: it repairs the stack and registers."""
from . import compat  # isort: skip

compat.repair()  # before anything imports mmrazor.models

from . import datasets, engine, models  # isort: skip
from . import runtime, teacher_cache  # isort: skip
from .config_builder import make_config
from .hub import register_models
from .models import FeatureHead, LocalLogits, RegionHead

__all__ = [
    'FeatureHead', 'LocalLogits', 'RegionHead', 'make_config',
    'register_models'
]
