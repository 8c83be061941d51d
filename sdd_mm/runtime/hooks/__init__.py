# Copyright (c) sdd_mm contributors. All rights reserved.
from .deferred_scalars_hook import DeferredScalarsHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook
from .label_check_hook import LabelCheckHook

__all__ = [
    'DeferredScalarsHook', 'ExactResumeHook', 'FiniteLossHook',
    'LabelCheckHook'
]
