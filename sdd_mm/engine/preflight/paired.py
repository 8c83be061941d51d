# Copyright (c) sdd_mm contributors. All rights reserved.
"""Whether two inputs per sample reach both networks as one scene."""
from typing import Iterator, Mapping

from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

from ...images import datasets_of
from ...models.algorithms import FrozenTeacherDistill
from ...models.data_preprocessor import PairedDataPreprocessor
from ..errors import PreflightError

# mmcv draws the random numbers of these anew for every image
DRAW_ANEW = ('RandomResizedCrop', 'EfficientNetRandomCrop', 'AutoAugment',
             'RandAugment', 'Albumentations', 'Albu')


def check_paired_steps(cfg: Config, field: str) -> None:
    """Nothing changes one image of a pair and not the other.

    Args:
        cfg (Config): The config of a run.
        field (str): Config key of a dataloader.

    Raises:
        PreflightError: If something does.
    """
    for key, dataset in datasets_of(f'{field}.dataset', cfg[field]['dataset']):
        steps = dataset.get('pipeline') or ()
        if 'PackPairedInputs' not in map(_name, steps):
            continue
        for index, step in enumerate(steps):
            if _name(step) == 'TransformBroadcaster':
                _check_broadcaster(f'{key}.pipeline.{index}', step)
        for hook in cfg.get('custom_hooks') or ():
            for recipe in hook.get('schedule') or ():
                if isinstance(recipe, dict) and recipe.get('batch_augments'):
                    raise PreflightError(
                        f'{_name(hook)} of custom_hooks switches to Mixup or '
                        "CutMix, which mix the student's images and not the "
                        "teacher's: remove batch_augments from its schedule")


def check_pairs(model: nn.Module, field: str, loader: DataLoader) -> None:
    """Pairs come from the pipeline if the data preprocessor takes them.

    Args:
        model (nn.Module): The model.
        field (str): Config key of a dataloader.
        loader (DataLoader): The dataloader.

    Raises:
        PreflightError: If one of them is without the other.
    """
    paired = isinstance(loader.dataset[0].get('inputs'), Mapping)
    takes = isinstance(model.data_preprocessor, PairedDataPreprocessor)
    if paired and not isinstance(model, FrozenTeacherDistill):
        raise PreflightError(
            f'{field}.dataset yields an input for a teacher, and '
            f'{type(model).__name__} has none: end its pipeline with '
            'PackInputs')
    if paired and not takes:
        raise PreflightError(
            f'{field}.dataset yields an input for the student and one for the '
            "teacher: set data_preprocessor.type='PairedDataPreprocessor', or "
            'end its pipeline with PackInputs')
    if takes and not paired and field == 'train_dataloader':
        raise PreflightError(
            'data_preprocessor is a PairedDataPreprocessor, and '
            f'{field}.dataset yields a single input: end its pipeline with '
            "dict(type='PackPairedInputs')")


def _check_broadcaster(key: str, step: dict) -> None:
    advice = "use dict(type='ApplyToBoth', transforms=[...]) instead"
    if not step.get('share_random_params'):
        raise PreflightError(
            f'{key} is a TransformBroadcaster without share_random_params, '
            "which crops and flips the student's image and the teacher's "
            f'differently: {advice}')
    for name in _names(step.get('transforms')):
        if name in DRAW_ANEW:
            raise PreflightError(
                f'{key}: {name} in a TransformBroadcaster changes the '
                "student's image and the teacher's differently, even with "
                f'share_random_params: {advice}')


def _names(steps) -> Iterator[str]:
    """Names of transforms, at any depth."""
    if isinstance(steps, dict):
        if 'type' in steps:
            yield _name(steps)
        steps = list(steps.values())
    if isinstance(steps, (list, tuple)):
        for step in steps:
            yield from _names(step)


def _name(step: dict) -> str:
    return str(step.get('type')).split('.')[-1]
