# Copyright (c) sdd_mm contributors. All rights reserved.
from .hooks import *  # noqa: F401,F403
from .optim_wrappers import DeferredAmpOptimWrapper  # noqa: F401
from .optim_wrappers import DeferredOptimWrapper
