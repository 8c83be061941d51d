# Copyright (c) sdd_mm contributors. All rights reserved.
import sys
from importlib import import_module

from .version import __version__

__all__ = [
    'FeatureHead', 'LocalLogits', 'RegionHead', '__version__', 'distill',
    'make_config', 'register_models'
]

# Registration takes seconds. sys.argv[0] is '-m' while Python looks for the
# module of `python -m`: our commands parse their arguments first
if sys.argv[:1] != ['-m'] or not {f'{__name__}.doctor', f'{__name__}.distill'
                                  }.intersection(sys.orig_argv):
    from .plugin import (FeatureHead, LocalLogits, RegionHead, make_config,
                         register_models)


def __getattr__(name: str):
    """The public names, also where they were not imported above."""
    if name == 'distill':  # a module that is called
        return import_module(f'{__name__}.distill')
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import plugin
    return getattr(plugin, name)
