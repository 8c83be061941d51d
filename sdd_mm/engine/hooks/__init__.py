# Copyright (c) sdd_mm contributors. All rights reserved.
from .deferred_scalars_hook import DeferredScalarsHook
from .distill_warmup_hook import DistillWarmupHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook
from .frozen_teacher_hook import FrozenTeacherHook
from .label_check_hook import LabelCheckHook
from .sdd_report_hook import SDDReportHook

__all__ = [
    'DeferredScalarsHook', 'DistillWarmupHook', 'ExactResumeHook',
    'FiniteLossHook', 'FrozenTeacherHook', 'LabelCheckHook', 'SDDReportHook'
]
