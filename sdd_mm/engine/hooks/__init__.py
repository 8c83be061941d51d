# Copyright (c) sdd_mm contributors. All rights reserved.
from .channels_last_hook import ChannelsLastHook
from .distill_warmup_hook import DistillWarmupHook
from .frozen_teacher_hook import FrozenTeacherHook
from .sdd_report_hook import SDDReportHook
from .training_labels_hook import TrainingLabelsHook

__all__ = [
    'ChannelsLastHook', 'DistillWarmupHook', 'FrozenTeacherHook',
    'SDDReportHook', 'TrainingLabelsHook'
]
