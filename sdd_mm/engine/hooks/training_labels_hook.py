# Copyright (c) sdd_mm contributors. All rights reserved.
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...models.losses.base import DistillLossError
from ...runtime.utils import bare_model


@HOOKS.register_module()
class TrainingLabelsHook(Hook):
    """Tells a loss the labels of the training set before training.

    ``ContrastiveLoss`` needs them, to draw images of other classes.

    Args:
        smoke (bool): Whether the labels of fewer images than the loss was
            built for are repeated, as in a smoke run. Defaults to False.

    Raises:
        DistillLossError: If the model has no such loss, or the images of a
            batch cannot be found in one data set.

    Examples:
        >>> # in a config
        >>> custom_hooks = [dict(type='TrainingLabelsHook')]
    """

    def __init__(self, smoke: bool = False) -> None:
        self.smoke = smoke

    def before_train(self, runner) -> None:
        """Tell the labels."""
        model = bare_model(runner)
        distiller = getattr(model, 'distiller', None)
        losses = [
            loss for loss in getattr(distiller, 'distill_losses', {}).values()
            if hasattr(loss, 'set_labels')
        ]
        if not losses:
            raise DistillLossError(
                'TrainingLabelsHook found no ContrastiveLoss in '
                'model.distiller.distill_losses: remove it from custom_hooks')
        if getattr(model.data_preprocessor, 'batch_augments', None):
            raise DistillLossError(
                'ContrastiveLoss contrasts single images, but Mixup or CutMix '
                'blends them: remove train_cfg.augments of the student')
        labels = self._labels(runner.train_dataloader.dataset)
        for loss in losses:
            if self.smoke:
                labels = np.resize(labels, loss.num_data)
            loss.set_labels(labels)

    @staticmethod
    def _labels(dataset):
        """The labels by the places that samples know."""
        while hasattr(dataset, 'dataset'):
            # what repeats or selects images leaves their places as they are
            dataset = dataset.dataset
        if hasattr(dataset,
                   'datasets') or not hasattr(dataset, 'get_gt_labels'):
            raise DistillLossError(
                'ContrastiveLoss needs one data set whose images have '
                'labels and places of their own, but train_dataloader has a '
                f'{type(dataset).__name__}: use a single data set of '
                'MMPretrain')
        return dataset.get_gt_labels()
