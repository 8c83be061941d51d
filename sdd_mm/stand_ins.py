# Copyright (c) sdd_mm contributors. All rights reserved.
"""Empty packages for :mod:`sdd_mm.compat`, in the place of real ones."""
import importlib
import importlib.abc
import importlib.machinery
from types import ModuleType

import torch


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder of empty packages.

    Args:
        packages (dict): Their names, and what each of them would register:
            (registry of mmrazor, names of classes).
        reason (str): What the use of a class of theirs says, after its name.
    """

    def __init__(self, packages: dict, reason: str) -> None:
        self.packages = packages
        self.reason = reason

    def find_spec(self, name, path=None, target=None):
        if name not in self.packages:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__all__ = []
        # `from .package import Name` of any name gives its placeholder
        module.__getattr__ = self._attribute
        registry, names = self.packages[module.__name__]
        if registry is not None:
            registry = getattr(
                importlib.import_module('mmrazor.registry'), registry)
            for name in names:
                registry.register_module(
                    name=name, module=self._attribute(name), force=True)

    def _attribute(self, name: str) -> type:
        """A class that says why it cannot be used."""
        if name.startswith('__'):
            raise AttributeError(name)

        def __init__(placeholder, *args, **kwargs):
            raise RuntimeError(f'{name} {self.reason}')

        return type(name, (), {'__init__': __init__})


# The packages of mmrazor that do not import on torch >= 2.
QUANTIZATION = StandIns(
    {
        'mmrazor.structures.quantization': (None, ()),
        'mmrazor.models.quantizers':
        ('MODELS', ('AcademicQuantizer', 'OpenVINOQuantizer',
                    'TensorRTQuantizer', 'TorchNativeQuantizer')),
        'mmrazor.models.observers':
        ('MODELS', ('LSQObserver', 'LSQPerChannelObserver')),
        'mmrazor.models.fake_quants': ('MODELS', ('LearnableFakeQuantize', )),
        'mmrazor.models.algorithms.quantization':
        ('MODELS', ('MMArchitectureQuant', )),
        'mmrazor.engine.runner.quantization_loops':
        ('LOOPS',
         ('LSQEpochBasedLoop', 'PTQLoop', 'QATEpochBasedLoop', 'QATValLoop')),
    }, 'belongs to the quantization of MMRazor 1.0.0, which does not work on '
    f'torch {torch.__version__} (it was written for torch 1.13). sdd_mm '
    'imports MMRazor without it; distillation is not affected.')

# What the wheel of mmaction2 1.2.0 lacks (its issue 2714).
DRN = StandIns(
    {
        'mmaction.models.localizers.drn': (None, ()),
        'mmaction.models.localizers.drn.drn': (None, ()),
    }, 'is not in the wheel of mmaction2 1.2.0: install mmaction2 from its '
    'repository to use this localizer. Recognizers are not affected.')
