# Copyright (c) sdd_mm contributors. All rights reserved.
from .frozen_teacher_distill import FrozenTeacherDistill
from .rotation_distill import RotationDistill
from .rotation_head import RotationHead
from .teacher import TEACHER_META, TeacherError
from .teacher_ensemble import TeacherEnsemble
from .teacher_input import Resize

__all__ = [
    'TEACHER_META', 'FrozenTeacherDistill', 'Resize', 'RotationDistill',
    'RotationHead', 'TeacherEnsemble', 'TeacherError'
]
