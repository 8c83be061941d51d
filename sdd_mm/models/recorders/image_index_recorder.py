# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Sequence

import numpy as np
import torch
from mmrazor.registry import TASK_UTILS
from torch import Tensor

from ...structures import DataSampleBatch
from .data_samples_recorder import DataSamplesRecorder


@TASK_UTILS.register_module()
class ImageIndexRecorder(DataSamplesRecorder):
    """Records the place of every image in the data set, (B,), on the host.

    It is the ``sample_idx`` in the data samples' meta information, which
    MMPretrain's ``PackInputs`` keeps, or the ``image_ids`` of a
    :class:`DataSampleBatch`. ``ContrastiveLoss`` needs it.

    In a config the type is written ``ImageIndex``: MMRazor appends
    ``Recorder``.

    Raises:
        ValueError: If the model's ``forward`` takes no ``data_samples``, or
            they do not have a place.

    Examples:
        >>> # in a config
        >>> student_recorders = dict(index=dict(type='ImageIndex'))
    """

    def read(self, samples: Sequence) -> Tensor:
        """The places of a batch."""
        batch = isinstance(samples[0], DataSampleBatch)
        name = 'image_ids' if batch else 'sample_idx'
        if any(name not in sample for sample in samples):
            raise ValueError(
                f'the data samples of {self._title} have no {name} in their '
                'meta information: let the pipeline of train_dataloader end '
                "in PackInputs with 'sample_idx' in its meta_keys")
        if batch:
            return torch.from_numpy(
                np.concatenate([sample.image_ids for sample in samples]))
        return torch.tensor([sample.sample_idx for sample in samples])
