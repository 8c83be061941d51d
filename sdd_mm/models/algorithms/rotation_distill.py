# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Dict, List, Optional

import torch
from mmengine.structures import BaseDataElement
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional.rotated_views import rotated_views
from ...functional.rotation_relations import VIEWS
from ...weights import WeightsError, misfits, read_checkpoint, select
from ..data_preprocessor import PairedDataPreprocessor
from ..losses.rotation_relation_loss import RotationRelationLoss
from ..networks import members_of
from .frozen_teacher_distill import FrozenTeacherDistill
from .teacher import TEACHER_META, TeacherError


@MODELS.register_module()
class RotationDistill(FrozenTeacherDistill):
    """A frozen teacher that explains every image in four rotations (SSKD).

    Student and teacher see four views of every image, (4B, 3, H, H), as in
    Xu et al., ECCV 2020. The student's own losses, such as its cross entropy,
    are of the views that are not rotated; the distillation losses choose
    their views by themselves: :class:`ViewLoss` and
    :class:`RotationRelationLoss`. Validation sees the images as they are.

    Images are cropped here, every view on its own, so the training pipeline
    flips them and does not crop.

    Args:
        *args: The arguments of :class:`FrozenTeacherDistill`.
        padding (int): Pixels around a view before it is cropped. Defaults to
            4, as released for CIFAR-100.
        **kwargs: The arguments of :class:`FrozenTeacherDistill`.

    Raises:
        TeacherError: If the student has no head whose loss takes logits, or
            there is no checkpoint of the teacher's rotation head, or it is
            another teacher's.

    Examples:
        >>> # in a config
        >>> model = dict(
        ...     type='RotationDistill',
        ...     student_loss_weight=0.1,
        ...     distiller=dict(
        ...         type='SDDDistiller',
        ...         distill_losses=dict(
        ...             loss_kd=dict(
        ...                 type='ViewLoss',
        ...                 views='normal',
        ...                 loss=dict(
        ...                     type='LogitLoss',
        ...                     criterion=dict(type='KDCriterion')),
        ...                 loss_weight=0.9),
        ...             loss_relation=dict(
        ...                 type='RotationRelationLoss',
        ...                 student_channels=1280,
        ...                 teacher_channels=256,
        ...                 teacher_head='work_dirs/sskd-head/epoch_60.pth',
        ...                 loss_weight=10.))))
    """

    def __init__(self, *args, padding: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.padding = padding
        if len(members_of(self.teacher)) > 1 or isinstance(
                self.data_preprocessor, PairedDataPreprocessor):
            raise TeacherError(
                'RotationDistill rotates the images of one teacher, which are '
                "the student's: set model.teacher to one classifier, and "
                "data_preprocessor.type='AsyncClsDataPreprocessor'")
        head = getattr(self.student, 'head', None)
        if not hasattr(head, '_get_loss'):
            raise TeacherError(
                f'RotationDistill takes the cross entropy of a quarter of the '
                f'logits, which the head {type(head).__name__} of the student '
                'does not do: set model.architecture.head.type to one such as '
                'LinearClsHead')

    def load_teacher(self) -> None:
        """Load the teacher's checkpoint, and its rotation heads."""
        super().load_teacher()
        if self.teacher_ckpt is None and self.allow_untrained_teacher:
            return  # no head is of a random teacher
        for name, loss in self.distiller.distill_losses.items():
            if isinstance(loss, RotationRelationLoss):
                self._load_head(
                    f'model.distiller.distill_losses.{name}.teacher_head',
                    loss)

    def _load_head(self, key: str, loss: RotationRelationLoss) -> None:
        if loss.teacher_head is None:
            raise TeacherError(
                f'{key} is None: train a head for this teacher with a model '
                'of type RotationHead, and set the key to its checkpoint')
        try:
            content = read_checkpoint(loss.teacher_head)
        except WeightsError as error:
            raise TeacherError(f'{key} {error}: train it with a model of type '
                               'RotationHead') from error
        weights = select(content['state_dict'], 'head.')
        found = misfits(weights, loss.teacher_projection)
        if found:
            raise TeacherError(
                f'{key} {loss.teacher_head} does not fit: {found}. It must be '
                'a checkpoint of a RotationHead of this teacher')
        theirs = content['meta'].get(TEACHER_META)
        if theirs != self.teacher_hash:
            raise TeacherError(
                f'{key} {loss.teacher_head} is of another teacher: SHA-256 '
                f'{theirs}, model.teacher_ckpt has {self.teacher_hash}. '
                'Train a RotationHead of this teacher')
        loss.teacher_projection.load_state_dict(weights)

    def loss(
        self,
        batch_inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
    ) -> Dict[str, Tensor]:
        """Losses of the student and of the distillation.

        Args:
            batch_inputs (Tensor): Images, (B, 3, H, H).
            data_samples (list[BaseDataElement], optional): Their labels.

        Returns:
            dict[str, Tensor]: As of :class:`FrozenTeacherDistill`.
        """
        views = rotated_views(batch_inputs, black(self.data_preprocessor),
                              self.padding)
        return super().loss(views, data_samples)

    def _own_losses(self, batch_inputs: Tensor,
                    data_samples) -> Dict[str, Tensor]:
        logits = self.student(batch_inputs, data_samples, mode='tensor')
        return self.student.head._get_loss(logits[::VIEWS], data_samples)


def black(preprocessor: nn.Module) -> Tensor:
    """The value of a black pixel after normalization, per channel, (C,)."""
    if not getattr(preprocessor, '_enable_normalize', False):
        return torch.zeros(1)
    return (-preprocessor.mean / preprocessor.std).flatten()
