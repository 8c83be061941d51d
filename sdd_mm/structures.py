# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Mapping

import numpy as np
from mmpretrain.structures import DataSample
from torch import Tensor

REMEDY = {
    'pred_':
    'is a prediction per image: set '
    'val_dataloader.dataset.dataset.test_mode=True (or test_dataloader...), '
    'and InMemoryDataset gives one data sample per image',
    'gt_score':
    'comes from data_preprocessor.to_onehot or from batch augmentations '
    '(Mixup, CutMix: model.train_cfg.augments or '
    'model.architecture.train_cfg.augments): remove them, or do not wrap '
    'train_dataloader.dataset in InMemoryDataset',
    'mask':
    'belongs to a single image: do not wrap train_dataloader.dataset in '
    'InMemoryDataset',
}


def student_part(inputs: Any) -> Any:
    """The student's part of ``inputs=dict(student=..., teacher=...)``.

    Args:
        inputs (Any): What a batch or a data preprocessor has as ``inputs``.

    Returns:
        Any: Anything but such a dict is the student's as a whole.
    """
    return inputs['student'] if isinstance(inputs, Mapping) else inputs


class DataSampleBatch(DataSample):
    """The labels of a whole batch in one data sample.

    A classifier's loss concatenates the ``gt_label`` of its data samples, so a
    list with one such batch works like a list of labeled images, without one
    object per image. Code that would treat it as a single image raises an
    error.

    The ids are NumPy arrays in the meta information: they stay on the host
    when the batch is moved to a device, so reading them does not wait for it.

    Attributes:
        gt_label (Tensor): Labels, int64, (B,).
        image_ids (np.ndarray): Positions in the data set, int64, (B,).
        view_ids (np.ndarray): Views of the images, int64, (B,).

    Examples:
        >>> sample = DataSampleBatch(
        ...     gt_label=torch.tensor([3, 7]),
        ...     metainfo=dict(
        ...         image_ids=np.array([0, 1]), view_ids=np.array([5, 80])))
        >>> batch = dict(inputs=images, data_samples=[sample])
    """

    def set_field(self,
                  value: Any,
                  name: str,
                  dtype=None,
                  field_type: str = 'data') -> None:
        """Set a field of the batch.

        Raises:
            ValueError: If the field belongs to a single image, or its length
                is not the batch size.
        """
        for start, remedy in REMEDY.items():
            if name.startswith(start):
                raise ValueError(
                    f'a DataSampleBatch holds a whole batch, but {name} '
                    f'{remedy}')
        if name in ('image_ids', 'view_ids'):
            if field_type != 'metainfo' or not (isinstance(value, np.ndarray)
                                                and value.ndim == 1
                                                and value.dtype == np.int64):
                raise ValueError(f'{name} of a DataSampleBatch must be '
                                 'metainfo, an int64 array (B,)')
        elif name == 'gt_label':
            if not isinstance(value, Tensor) or value.ndim != 1:
                raise ValueError('gt_label of a DataSampleBatch must be a '
                                 f'tensor (B,), got {value!r}')
        else:
            return super().set_field(value, name, dtype, field_type)
        for other in ('gt_label', 'image_ids', 'view_ids'):
            if other in self and len(self.get(other)) != len(value):
                raise ValueError(
                    f'{name} of a DataSampleBatch has {len(value)} entries, '
                    f'its {other} {len(self.get(other))}')
        super().set_field(value, name, dtype, field_type)

    def set_gt_score(self, value) -> 'DataSampleBatch':
        """Refuse scores: heads would stack them into another dimension."""
        self.set_field(value, 'gt_score')
