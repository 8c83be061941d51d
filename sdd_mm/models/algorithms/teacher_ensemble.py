# Copyright (c) sdd_mm contributors. All rights reserved.
"""Several teachers as one."""
from typing import List, Optional, Sequence

import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmrazor.registry import MODELS as NETWORKS
from torch import Tensor

from ..networks import logits_of
from .configs import mmpretrain
from .teacher import TeacherError

VIEWS = ('student', 'teacher')


@MODELS.register_module()
class TeacherEnsemble(BaseModel):
    """Several teachers: the mean of their logits, of the image and its cells.

    ``ScaleDecoupledLoss`` and ``LogitLoss`` distill from it. Maps may differ
    in size and in channels. ``model.teacher_ckpt`` is a list of their
    checkpoints. Each teacher gets images in its own format.

    Args:
        teachers (Sequence[dict]): Their configs, each with its
            ``data_preprocessor``, as ``model.teacher`` of a single one.
        views (Sequence[str], optional): What each of them sees: 'student',
            the student's images, or 'teacher', the other part of
            ``inputs=dict(student=..., teacher=...)``. Defaults to None: all
            see the student's.

    Raises:
        TeacherError: If there is no list of two teachers, or not as many
            views.

    Examples:
        >>> # in a config
        >>> model = dict(
        ...     type='FrozenTeacherDistill',
        ...     teacher=dict(
        ...         type='TeacherEnsemble',
        ...         teachers=[dict(type='ImageClassifier', ...), dict(...)]),
        ...     teacher_ckpt=['first.pth', 'second.pth'])
    """

    def __init__(self,
                 teachers: Sequence[dict],
                 views: Optional[Sequence[str]] = None) -> None:
        super().__init__()
        if not isinstance(teachers, (list, tuple)) or not all(
                isinstance(one, (dict, torch.nn.Module)) for one in teachers):
            raise TeacherError(
                'model.teacher.teachers must be a list of the configs of '
                f'teachers, got {teachers!r}')
        # each of the teachers has its own
        self.data_preprocessor = None
        views = tuple(views or ['student'] * len(teachers))
        if len(teachers) < 2:
            raise TeacherError(
                'a TeacherEnsemble takes two teachers or more: set '
                'model.teacher to the config of the only one')
        if len(views) != len(teachers) or set(views) - set(VIEWS):
            raise TeacherError(
                f'model.teacher.views must name one of {VIEWS} for each of '
                f'the {len(teachers)} teachers, got {views}')
        if any(
                isinstance(one, dict) and 'teachers' in one
                or isinstance(one, TeacherEnsemble) for one in teachers):
            raise TeacherError(
                'a TeacherEnsemble within another has no meaning of its own: '
                'name all teachers in one list, model.teacher.teachers')
        self.views = views
        self.members = torch.nn.ModuleList(
            NETWORKS.build(mmpretrain(one)) if isinstance(one, dict) else one
            for one in teachers)

    def forward(self,
                inputs: List[Tensor],
                data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Tensor:
        """The mean of the logits, (B, K).

        Args:
            inputs (list[Tensor]): The images of each teacher, (B, C, H, W).
            data_samples (list, optional): Their data samples.
            mode (str): As in ``BaseModel``. Only 'tensor' has a meaning.
        """
        found = [
            logits_of(member, images, data_samples)
            for member, images in zip(self.members, inputs, strict=True)
        ]
        return torch.stack(found).mean(0)
