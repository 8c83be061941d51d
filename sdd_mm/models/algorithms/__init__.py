# Copyright (c) sdd_mm contributors. All rights reserved.
from .frozen_teacher_distill import FrozenTeacherDistill
from .teacher import TeacherError

__all__ = ['FrozenTeacherDistill', 'TeacherError']
