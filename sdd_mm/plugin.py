# Copyright (c) sdd_mm contributors. All rights reserved.
"""All that `import sdd_mm` does: it repairs the stack and registers."""
from . import compat  # isort: skip

compat.repair()  # before anything imports mmrazor.models

from . import datasets, engine, models  # noqa: E402,F401
from . import runtime, teacher_cache  # noqa: E402,F401
from .config_builder import make_config  # noqa: E402
from .hub import register_models  # noqa: E402
from .models import FeatureHead, LocalLogits, RegionHead  # noqa: E402

__all__ = [
    'FeatureHead', 'LocalLogits', 'RegionHead', 'make_config',
    'register_models'
]
