# Copyright (c) sdd_mm contributors. All rights reserved.
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmpretrain.datasets import BaseDataset
from torch import nn
from torch.utils.data import Dataset

from ...datasets import InMemoryDataset
from ...models.losses.base import DistillLossError
from ...runtime.utils import bare_model, num_classes


@HOOKS.register_module()
class TrainingLabelsHook(Hook):
    """Tells a loss the labels of the training set before training.

    ``ContrastiveLoss`` needs them, to draw images of other classes.

    Args:
        smoke (bool): Whether there are fewer images than the loss was built
            for, as in a smoke run, so that others are made up. Defaults to
            False.

    Raises:
        DistillLossError: If the model has no such loss, images are mixed, or
            the training set is a wrapper around others.

    Examples:
        >>> # in a config
        >>> custom_hooks = [dict(type='TrainingLabelsHook')]
    """

    def __init__(self, smoke: bool = False) -> None:
        self.smoke = smoke

    def before_train(self, runner) -> None:
        """Tell the labels."""
        self.tell(bare_model(runner), runner.train_dataloader.dataset)

    def tell(self, model: nn.Module, dataset: Dataset) -> None:
        """Tell the labels of a training set to the losses of a model.

        Args:
            model (nn.Module): A model with a distiller.
            dataset (Dataset): The training set.
        """
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
                'blends them: remove the augments from train_cfg of the '
                'student (model.architecture)')
        if isinstance(dataset, InMemoryDataset):
            dataset = dataset.dataset
        if not isinstance(dataset, BaseDataset):
            raise DistillLossError(
                'ContrastiveLoss has one memory per training image, but '
                f'train_dataloader.dataset is a {type(dataset).__name__}, '
                'which repeats images, joins data sets or leaves images out: '
                'use a single data set of MMPretrain')
        labels = dataset.get_gt_labels()
        for loss in losses:
            if self.smoke:
                few, classes = labels[:loss.num_data], num_classes(model)
                labels = np.arange(loss.num_data) % classes
                labels[:len(few)] = few
            loss.set_labels(labels)
