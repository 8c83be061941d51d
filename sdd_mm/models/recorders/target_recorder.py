# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Sequence

import torch
from mmengine.logging import print_log
from mmrazor.registry import TASK_UTILS
from torch import Tensor

from ...structures import DataSampleBatch
from .data_samples_recorder import DataSamplesRecorder


@TASK_UTILS.register_module()
class TargetRecorder(DataSamplesRecorder):
    """Records the targets in the data samples that a model is called with.

    ``gt_score`` (B, K) if the samples have it (Mixup, CutMix, label smoothing
    by score), else ``gt_label`` (B,): one per sample, or all of a
    :class:`DataSampleBatch`. Images without a label, which
    ``FrozenTeacherDistill`` lets pass only if it is told to, have the label
    -1. The losses take the argmax of a soft target; the
    first soft batch is logged once.

    In a config the type is written ``Target``: MMRazor appends ``Recorder``.

    Raises:
        ValueError: If the model's ``forward`` takes no ``data_samples``, or if
            a batch does not have exactly one target per image.

    Examples:
        >>> # in a config
        >>> student_recorders = dict(target=dict(type='Target'))
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged = False

    def read(self, samples: Sequence) -> Tensor:
        """The targets of a batch."""
        if 'gt_score' in samples[0]:
            if not self._logged:
                self._logged = True
                print_log(
                    'Soft targets: DKD, NKD and the `label` rule of SDD take '
                    'the class of the largest score.',
                    logger='current')
            return torch.stack([sample.gt_score for sample in samples])
        if not all('gt_label' in sample for sample in samples):
            if any('gt_score' in sample for sample in samples):
                raise ValueError(
                    f'some data samples of {self._title} have scores and some '
                    'no label')
            unknown = torch.full((1, ), -1, device=self.device)
            return torch.cat(
                [sample.get('gt_label', unknown) for sample in samples])
        target = torch.cat([sample.gt_label for sample in samples])
        if all(isinstance(sample, DataSampleBatch) for sample in samples):
            return target
        if len(target) != len(samples):
            raise ValueError(
                f'{len(samples)} data samples have {len(target)} labels: SDD '
                'needs exactly one label per image')
        return target
