# Copyright (c) sdd_mm contributors. All rights reserved.
import inspect
from typing import Optional, Sequence

import torch
from mmengine.logging import print_log
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ...structures import DataSampleBatch


@TASK_UTILS.register_module()
class TargetRecorder(BaseRecorder):
    """Records the targets in the data samples that a model is called with.

    ``gt_score`` (B, K) if the samples have it (Mixup, CutMix, label smoothing
    by score), else ``gt_label`` (B,): one per sample, or all of a
    :class:`DataSampleBatch`. The losses take the argmax of a soft target; the
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
        super().__init__(source='')
        self._recording = False
        self._logged = False

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Record what the model's ``forward`` is called with."""
        self._title = type(model).__name__
        parameters = list(inspect.signature(model.forward).parameters)
        if 'data_samples' not in parameters:
            raise ValueError(
                f'{self._title}.forward takes no `data_samples`, so the '
                'Target recorder cannot read labels from it')
        self._position = parameters.index('data_samples')
        model.register_forward_pre_hook(self._keep_target, with_kwargs=True)

    def _keep_target(self, module: nn.Module, args: tuple,
                     kwargs: dict) -> None:
        if not self._recording:
            return
        samples = kwargs.get('data_samples')
        if samples is None and len(args) > self._position:
            samples = args[self._position]
        self.data_buffer.append(self._target(samples))

    def _target(self, samples: Optional[Sequence]) -> Tensor:
        if not samples:
            raise ValueError(f'{self._title} was called without data_samples, '
                             'so the distillation has no target')
        if 'gt_score' in samples[0]:
            if not self._logged:
                self._logged = True
                print_log(
                    'Soft targets: DKD, NKD and the `label` rule of SDD take '
                    'the class of the largest score.',
                    logger='current')
            return torch.stack([sample.gt_score for sample in samples])
        if 'gt_label' not in samples[0]:
            raise ValueError(
                f'the data samples of {self._title} have neither gt_label nor '
                'gt_score: SDD needs a single-label data set')
        target = torch.cat([sample.gt_label for sample in samples])
        if all(isinstance(sample, DataSampleBatch) for sample in samples):
            return target
        if len(target) != len(samples):
            raise ValueError(
                f'{len(samples)} data samples have {len(target)} labels: SDD '
                'needs exactly one label per image')
        return target

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self._recording = False
