# Copyright (c) sdd_mm contributors. All rights reserved.
"""From a folder of pictures to a student, by the commands of this package.

``sdd_mm.distill`` is a function, :func:`distill`, and ``python -m
sdd_mm.distill`` its command.
"""
import sys
from types import ModuleType


class _Callable(ModuleType):
    """This module, which is called as the function that it is for."""

    def __call__(self, *args, **kwargs):
        from .run import distill
        return distill(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
