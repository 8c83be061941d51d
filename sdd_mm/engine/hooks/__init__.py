# Copyright (c) sdd_mm contributors. All rights reserved.
from .distill_warmup_hook import DistillWarmupHook
from .frozen_teacher_hook import FrozenTeacherHook
from .sdd_report_hook import SDDReportHook
from .training_labels_hook import TrainingLabelsHook

__all__ = [
    'DistillWarmupHook', 'FrozenTeacherHook', 'SDDReportHook',
    'TrainingLabelsHook'
]
