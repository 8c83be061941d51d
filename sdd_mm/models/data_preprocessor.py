# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import List, Mapping, Optional

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

    It takes what ``PackPairedInputs`` packs. Batches of a single input, such
    as those of validation, are the student's.

    ``FrozenTeacherDistill`` makes the teacher's part
    ``model.teacher.data_preprocessor``. Without one, it uses the one that
    ``model.teacher`` has.

    Args:
        student (dict, optional): The arguments of ``ClsDataPreprocessor`` for
            the student's images. Defaults to None: they are given directly.
        teacher (dict, optional): Those for the teacher's images. Defaults to
            None: they are copied to the device as they are.
        **kwargs: The arguments of ``ClsDataPreprocessor`` for the student's
            images.

    Raises:
        ValueError: If an argument is given twice and differs, or ``student``
            has a ``type``.

    Examples:
        >>> # in a config
        >>> data_preprocessor = dict(
        ...     type='PairedDataPreprocessor',
        ...     student=dict(mean=[127.5] * 3, std=[127.5] * 3),
        ...     teacher=dict(mean=[64.], std=[64.]))
        >>> # the teacher's is in model.teacher.data_preprocessor
        >>> data_preprocessor = dict(
        ...     type='PairedDataPreprocessor',
        ...     mean=[127.5] * 3,
        ...     std=[127.5] * 3)
    """

    def __init__(self,
                 student: Optional[dict] = None,
                 teacher: Optional[dict] = None,
                 **kwargs) -> None:
        for name, part in (('student', student), ('teacher', teacher)):
            if not isinstance(part, (Mapping, type(None))):
                raise ValueError(
                    f'data_preprocessor.{name} must be a dict of the '
                    f'arguments of a ClsDataPreprocessor, got {part!r}')
        if 'type' in (student or {}):
            raise ValueError(
                'data_preprocessor.student has the arguments that a '
                "PairedDataPreprocessor takes for the student's images: "
                'remove data_preprocessor.student.type')
        for name, value in (student or {}).items():
            if kwargs.get(name, value) != value:
                raise ValueError(
                    f'data_preprocessor.{name} is {kwargs[name]!r} and '
                    f'data_preprocessor.student.{name} is {value!r}: remove '
                    'one of the two')
        super().__init__(**{**kwargs, **(student or {})})
        if teacher is not None:
            teacher = MODELS.build(
                dict(dict(type=ClsDataPreprocessor), **teacher))
        self.teacher = teacher

    def forward(self, data: dict, training: bool = False) -> dict:
        """Preprocess the student's images, and the teacher's if it has a part.

        Returns:
            dict: ``inputs`` is a dict of ``student`` and ``teacher`` if that
            of ``data`` is.
        """
        inputs = data['inputs']
        if not isinstance(inputs, Mapping):
            return super().forward(data, training)
        found = super().forward(dict(data, inputs=inputs['student']), training)
        if self.teacher is None:
            teacher = self.cast_data(inputs['teacher'])
        else:
            teacher = self.teacher(dict(inputs=inputs['teacher']))['inputs']
        return dict(
            found, inputs=dict(student=found['inputs'], teacher=teacher))
