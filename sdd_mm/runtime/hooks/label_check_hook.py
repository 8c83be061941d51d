# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Callable

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..errors import LabelError
from ..utils import bare_model, num_classes


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
        self._classes = num_classes(bare_model(runner))
        dataset = runner.train_dataloader.dataset
        # one that gives whole batches may have them on the device already
        if (self._classes is not None and hasattr(dataset, '__getitems__')
                and hasattr(dataset, 'get_gt_labels')):
            self._check(dataset.get_gt_labels(), 'image {}'.format)

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
            self._check(
                label.numpy(), lambda _: sample.get('img_path') or sample.get(
                    'sample_idx', 'a sample'))

    def _check(self, labels: np.ndarray, name: Callable[[int], str]) -> None:
        wrong = np.flatnonzero((labels < 0) | (labels >= self._classes))
        if len(wrong):
            raise LabelError(
                f'{name(wrong[0])}: label {labels[wrong[0]]} is not one of '
                f'the {self._classes} classes of the student: correct the '
                'annotations of train_dataloader.dataset, or set '
                'head.num_classes of student and teacher')
