# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import List, Optional, Sequence

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import nn

from ..networks import members_of
from ..records import MeanRecord
from .feature_head_recorder import FeatureHeadRecorder
from .find_head import FeatureHeadError


@TASK_UTILS.register_module()
class EnsembleRecorder(BaseRecorder):
    """Records the teachers of a ``TeacherEnsemble``, and yields their mean.

    In a config the type is written ``Ensemble``: MMRazor appends
    ``Recorder``. ``SDDDistiller`` takes it by itself. The record is a
    :class:`sdd_mm.models.records.MeanRecord`.

    Args:
        recorders (Sequence[dict], optional): Config of a recorder for each
            teacher. Defaults to None: ``dict(type='FeatureHead')`` for all.

    Raises:
        FeatureHeadError: If there are not as many recorders as teachers, or
            one of them does not fit its teacher.

    Examples:
        >>> # in a config: the second teacher is a ConvNeXt
        >>> teacher_recorders = dict(
        ...     feature_head=dict(
        ...         type='Ensemble',
        ...         recorders=[
        ...             dict(type='FeatureHead'), dict(type='RegionHead')
        ...         ]))
    """

    def __init__(self, recorders: Optional[Sequence[dict]] = None) -> None:
        super().__init__(source='')
        self.recorders = recorders
        # 'teacher', for messages
        self.role = ''
        self.stop_at_map = False  # all teachers run to their end
        self.parts: List[FeatureHeadRecorder] = []

    @property
    def where(self) -> str:
        """What is recorded, for a log."""
        return ' and '.join(part.where for part in self.parts)

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Find the map and the classifier of each teacher."""
        members = members_of(model)
        configs = self.recorders or [dict(type='FeatureHead')] * len(members)
        if len(configs) != len(members):
            raise FeatureHeadError(
                f'{len(configs)} recorders for {len(members)} teachers: '
                'give one for each')
        self.parts = [
            TASK_UTILS.build(dict(one, type=f'{one["type"]}Recorder'))
            for one in configs
        ]
        for number, (part, member) in enumerate(zip(self.parts, members)):
            part.role = f'{self.role} {number}'.strip()
            part.initialize(member)

    def __enter__(self) -> None:
        super().__enter__()
        for part in self.parts:
            part.__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        for part in self.parts:
            part.__exit__(*error)
        if error[0] is None:
            self.data_buffer.append(
                MeanRecord(
                    tuple(part.get_record_data() for part in self.parts)))

    def reset_data_buffer(self) -> None:
        """Forget the last forward pass."""
        super().reset_data_buffer()
        for part in self.parts:
            part.reset_data_buffer()
