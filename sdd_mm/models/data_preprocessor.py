# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import List, Mapping

import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample


@MODELS.register_module()
class AsyncClsDataPreprocessor(ClsDataPreprocessor):
    """``ClsDataPreprocessor`` that copies to the device asynchronously.

    A plain copy waits until the device has finished the previous step. Here
    images are copied without waiting if the dataloader pins its memory, which
    is the default of ``tools/train.py``; labels are pinned here. Some images
    of a batch may lack a label, see ``FrozenTeacherDistill.allow_unlabeled``.

    Args:
        *args: The arguments of ``ClsDataPreprocessor``.
        **kwargs: The arguments of ``ClsDataPreprocessor``.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Copy to the device, normalize and augment."""
        # an asynchronous copy to the CPU would be read too early
        self._non_blocking = self.device.type == 'cuda'
        samples = data.get('data_samples')
        if samples and isinstance(samples[0], DataSample):
            for field in ('gt_label', 'gt_score'):
                self._copy([one for one in samples if field in one], field)
            if any('gt_label' in one
                   for one in samples) and not all('gt_label' in one
                                                   for one in samples):
                # MMPretrain takes labels of all images, or of none
                bare = [DataSample() for _ in samples]
                found = super().forward(
                    dict(data, data_samples=bare), training)
                return dict(found, data_samples=self.cast_data(samples))
        return super().forward(data, training)

    def _copy(self, samples: List[DataSample], field: str) -> None:
        """Copy one field of all samples at once."""
        values = [sample.get(field) for sample in samples]
        if self.device.type == 'cpu' or not values or any(
                value.device.type != 'cpu' for value in values):
            return
        batch = torch.cat(values)
        if self.device.type == 'cuda':
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=True)
        for sample, value in zip(samples,
                                 batch.split([len(v) for v in values])):
            sample.set_field(value, field, dtype=torch.Tensor)


@MODELS.register_module()
class PairedDataPreprocessor(AsyncClsDataPreprocessor):
    """A data preprocessor of images of which the teacher sees another view.

    It takes what ``PackPairedInputs`` packs. Its arguments are of the
    student's images. The teacher's are copied to the device; its own
    ``model.teacher.data_preprocessor`` normalizes them. Batches of a single
    input, such as those of validation, are the student's.

    Args:
        *args: The arguments of ``ClsDataPreprocessor``.
        **kwargs: The arguments of ``ClsDataPreprocessor``.

    Raises:
        ValueError: If it is given the arguments of two data preprocessors.

    Examples:
        >>> # in a config
        >>> data_preprocessor = dict(type='PairedDataPreprocessor')
    """

    def __init__(self, *args, **kwargs) -> None:
        if {'student', 'teacher'} & set(kwargs):
            raise ValueError(
                "the arguments of a PairedDataPreprocessor are the student's "
                '(mean, std, to_rgb), not student=dict(...) or teacher='
                "dict(...): set the teacher's in "
                'model.teacher.data_preprocessor')
        super().__init__(*args, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Preprocess the student's images.

        Returns:
            dict: ``inputs`` is a dict of ``student`` and ``teacher`` if that
            of ``data`` is.
        """
        inputs = data['inputs']
        if not isinstance(inputs, Mapping):
            return super().forward(data, training)
        found = super().forward(dict(data, inputs=inputs['student']), training)
        teacher = self.cast_data(inputs['teacher'])
        return dict(
            found, inputs=dict(student=found['inputs'], teacher=teacher))
