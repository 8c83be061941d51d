# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Dict, List, Optional, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import rotation_relations
from ...functional.rotated_views import rotated_views
from ...weights import weights_hash
from ..losses.rotation_relation_loss import projection
from .configs import mmpretrain
from .frozen_teacher_distill import drop_teacher, excuse_teacher
from .rotation_distill import black
from .teacher import input_conversion, load_teacher


@MODELS.register_module()
class RotationHead(BaseModel):
    """Trains a teacher's head for ``RotationDistill`` (SSKD, phase 1).

    The teacher is frozen and in eval mode. Its head learns to find the image
    that a rotated view was made of among the images of the batch, by the
    cross entropy of cosines without a temperature (Xu et al., ECCV 2020, as
    released). Checkpoints hold the head and the hash of the teacher;
    ``RotationRelationLoss.teacher_head`` takes one. Validation is that of the
    teacher.

    Args:
        teacher (dict): Config of the teacher, MMPretrain's without
            ``_scope_``, with its ``data_preprocessor``.
        teacher_ckpt (str): Path or URL of its checkpoint.
        channels (int): Channels of its pooled features.
        padding (int): As in :class:`RotationDistill`. Defaults to 4.
        data_preprocessor (dict, optional): The run's. It must normalize as
            the teacher's does. Defaults to None.

    Raises:
        TeacherError: If the checkpoint is not the teacher's, or images are
            normalized differently.

    Examples:
        >>> # in a config
        >>> model = dict(
        ...     _scope_='mmrazor',
        ...     type='RotationHead',
        ...     teacher=dict(type='ImageClassifier', ...),
        ...     teacher_ckpt='work_dirs/teacher/epoch_240.pth',
        ...     channels=256)
    """

    def __init__(self,
                 teacher: dict,
                 teacher_ckpt: str,
                 channels: int,
                 padding: int = 4,
                 data_preprocessor: Union[dict, nn.Module, None] = None):
        if isinstance(data_preprocessor, dict):
            data_preprocessor = dict(
                dict(_scope_='mmpretrain', type='AsyncClsDataPreprocessor'),
                **data_preprocessor)
        super().__init__(data_preprocessor)
        teacher = MODELS.build(mmpretrain(teacher))
        input_conversion(teacher, self, True, 'error')
        self.teacher = teacher.eval().requires_grad_(False)
        self.teacher_ckpt = teacher_ckpt
        self.teacher_hash: Optional[str] = None
        self.padding = padding
        self.head = projection(channels)
        self._register_state_dict_hook(drop_teacher)
        self._register_load_state_dict_pre_hook(drop_teacher, with_module=True)
        self.register_load_state_dict_post_hook(excuse_teacher)

    def init_weights(self) -> None:
        """Load the teacher; the head starts as torch initializes it."""
        load_teacher(self.teacher, self.teacher_ckpt)
        self.teacher_hash = weights_hash(self.teacher)

    def train(self, mode: bool = True) -> 'RotationHead':
        """Set the head's mode; the teacher stays in eval."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
        mode: str = 'tensor'
    ) -> Union[Dict[str, Tensor], Tensor, List[BaseDataElement]]:
        """The loss of the head, or what the teacher says.

        Args:
            inputs (Tensor): Images, (B, 3, H, H).
            data_samples (list[BaseDataElement], optional): Their labels, for
                'predict'.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.
        """
        if mode != 'loss':
            return self.teacher(inputs, data_samples, mode=mode)
        views = rotated_views(inputs, black(self.data_preprocessor),
                              self.padding)
        with torch.no_grad():
            feature = self.teacher.extract_feat(views)[-1].flatten(1)
        relations = rotation_relations(self.head(feature))
        own = torch.arange(len(relations), device=views.device) // 3
        found = relations.detach().argmax(1)
        return dict(
            loss=F.cross_entropy(relations, own),
            accuracy=100. * (found == own).float().mean())
