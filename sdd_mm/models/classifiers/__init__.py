# Copyright (c) sdd_mm contributors. All rights reserved.
from .module_classifier import ModuleClassifier

__all__ = ['ModuleClassifier']
