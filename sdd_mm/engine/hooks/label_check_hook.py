# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .utils import bare_model


class LabelError(ValueError):
    """A label that is no class of the student's."""


@HOOKS.register_module()
class LabelCheckHook(Hook):
    """Refuses labels that the student's head has no class for.

    A GPU would die of one without a word about it, and a loss that only
    compares classes would take it for a teacher that is always wrong. Labels
    are looked at on the host, before they are copied to the device.

    Raises:
        LabelError: With the label, its sample and the number of classes.

    Examples:
        >>> # in a config
        >>> default_hooks = dict(labels=dict(type='LabelCheckHook'))
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        """Find the number of classes."""
        model = bare_model(runner)
        student = getattr(model, 'architecture', model)
        self._classes: Optional[int] = getattr(
            getattr(student, 'head', None), 'num_classes', None)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Look at a batch's labels."""
        if self._classes is None or not isinstance(data_batch, dict):
            return
        samples = data_batch.get('data_samples')
        for sample in samples if isinstance(samples, (list, tuple)) else ():
            label = sample.get('gt_label')
            if label is None or label.device.type != 'cpu':
                continue
            # NumPy's view of it: torch would count it as a read
            values = label.numpy()
            wrong = (values < 0) | (values >= self._classes)
            if wrong.any():
                where = sample.get('img_path') or sample.get('sample_idx')
                ids = sample.get('image_ids')
                if ids is not None:
                    where = f'image {np.asarray(ids)[wrong][0]}'
                raise LabelError(
                    f'{where}: label {values[wrong][0]} is not one of the '
                    f'{self._classes} classes of the student: correct the '
                    'annotations of train_dataloader.dataset, or set '
                    'head.num_classes of student and teacher')
