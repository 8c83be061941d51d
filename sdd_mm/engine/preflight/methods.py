# Copyright (c) sdd_mm contributors. All rights reserved.
"""Whether batches and losses mean what the config says."""
from typing import Iterator

from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...images import datasets_of
from ...input_format import InputFormat
from ...models.losses import DKDCriterion, NKDCriterion
from ...runtime.utils import num_classes
from ...structures import student_part
from ..errors import PreflightError


def check_mixing(cfg: Config, model: nn.Module) -> None:
    """Scores of mixed images are as many as the head has classes.

    Args:
        cfg (Config): The config of a run.
        model (nn.Module): Its model.

    Raises:
        PreflightError: If ``data_preprocessor.num_classes`` is another number
            and something makes scores of labels.
    """
    preprocessor, classes = model.data_preprocessor, num_classes(model)
    scores = getattr(preprocessor, 'num_classes', classes)
    switches = any('batch_augments' in recipe
                   for hook in cfg.get('custom_hooks') or ()
                   if isinstance(hook, dict)
                   for recipe in hook.get('schedule') or ()
                   if isinstance(recipe, dict))
    makes_scores = (
        switches or getattr(preprocessor, 'batch_augments', None) is not None
        or getattr(preprocessor, 'to_onehot', False))
    if makes_scores and None not in (classes, scores) and scores != classes:
        head = 'model.head' if not hasattr(
            model, 'architecture') else 'model.architecture.head'
        raise PreflightError(
            f'data_preprocessor.num_classes is {scores}, {head}.num_classes '
            f'is {classes}: Mixup, CutMix and to_onehot make scores of as '
            'many classes as data_preprocessor.num_classes says. Set both to '
            'the number of classes')
    if makes_scores and scores is None:
        raise PreflightError(
            'data_preprocessor.num_classes is not set, and Mixup, CutMix and '
            f'to_onehot make scores of as many classes: set it to {classes}')


def check_channels(field: str, loader: DataLoader, model: nn.Module) -> None:
    """Images have the channels that they are normalized for.

    Args:
        field (str): Config key of the dataloader.
        loader (DataLoader): The dataloader.
        model (nn.Module): The model.

    Raises:
        PreflightError: If mean and std have neither one number nor as many
            as an image has channels: the first would silently make others.
    """
    mean = getattr(model.data_preprocessor, 'mean', None)
    image = student_part(loader.dataset[0].get('inputs'))
    if not isinstance(mean, Tensor) or not isinstance(image, Tensor):
        return
    axis = InputFormat.of_model(model).channel_axis
    if image.ndim not in (3, 5) or image.ndim < -axis:
        return  # not known, or several kinds of them
    if mean.numel() not in (1, image.shape[axis]):
        raise PreflightError(
            f'data_preprocessor.mean has {mean.numel()} numbers, and images '
            f'of {field} have {image.shape[axis]} channels: give mean and std '
            'one number, or one for each channel')


def check_normalized_once(field: str, dataset: dict, model: nn.Module) -> None:
    """A pipeline does not normalize what the data preprocessor does, too.

    Args:
        field (str): Config key of the dataloader.
        dataset (dict): Config of its data set.
        model (nn.Module): The model.

    Raises:
        PreflightError: If both do.
    """
    own = InputFormat.of_model(model)
    if own is None or own.is_plain:
        return
    for key, inner in datasets_of(f'{field}.dataset', dataset):
        for index, step in enumerate(inner.get('pipeline') or ()):
            if str(step.get('type')).split('.')[-1] == 'Normalize':
                raise PreflightError(
                    f'{key}.pipeline.{index} normalizes images, and '
                    f'data_preprocessor does so again ({own}): remove '
                    "dict(type='Normalize') from the pipeline, and give its "
                    'mean and std to data_preprocessor')


def without_meaning(model: nn.Module) -> Iterator[str]:
    """What a loss does not do with these classes, in sentences.

    Args:
        model (nn.Module): A model that distills.
    """
    distiller = getattr(model, 'distiller', None)
    classes = num_classes(model)
    for name, loss in getattr(distiller, 'distill_losses', {}).items():
        criterion = getattr(loss, 'criterion', None)
        for kind, weight in ((DKDCriterion, 'beta'), (NKDCriterion, 'gamma')):
            if isinstance(criterion, kind) and classes == 2:
                title = kind.__name__.removesuffix('Criterion')
                yield (
                    f'{name}: {title} compares the classes beside the target '
                    f'with each other. Of 2 classes that is one, so {weight} '
                    f'has no effect. Use KDCriterion (the method kd or sd-kd) '
                    'for two classes')
