# Copyright (c) sdd_mm contributors. All rights reserved.
from .frozen_teacher_distill import FrozenTeacherDistill
from .rotation_distill import RotationDistill
from .rotation_head import RotationHead
from .teacher import TEACHER_META, TeacherError

__all__ = [
    'TEACHER_META', 'FrozenTeacherDistill', 'RotationDistill', 'RotationHead',
    'TeacherError'
]
