# Copyright (c) sdd_mm contributors. All rights reserved.
from . import compat  # isort: skip

compat.repair()  # before anything imports mmrazor.models

from . import datasets, engine, models  # noqa: E402,F401
from . import runtime, teacher_cache  # noqa: E402,F401
from .config_builder import make_config  # noqa: E402
from .hub import register_models  # noqa: E402
from .models import FeatureHead, LocalLogits, RegionHead  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    'FeatureHead', 'LocalLogits', 'RegionHead', '__version__', 'make_config',
    'register_models'
]
