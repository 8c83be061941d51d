# Copyright (c) sdd_mm contributors. All rights reserved.
"""Whether two inputs per sample reach both networks as one scene."""
from typing import Iterator, Mapping

from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...images import datasets_of, preprocessor_of
from ...models.data_preprocessor import PairedDataPreprocessor
from ...models.networks import members_of
from ..errors import PreflightError

# mmcv draws the random numbers of these anew for every image
DRAW_ANEW = ('RandomResizedCrop', 'EfficientNetRandomCrop',
             'MAERandomResizedCrop', 'RandomErasing', 'Cutout', 'AutoAugment',
             'RandAugment', 'Albumentations', 'Albu')

# parts of the names of transforms that move what is in an image
MOVES = ('Crop', 'Flip', 'Rotat', 'Shear', 'Translat', 'Affine', 'Perspective',
         'Augment', 'Elastic', 'Pad', 'Albu', 'RandomResize')


def check_paired_steps(cfg: Config) -> None:
    """What the config alone says of pairs.

    Args:
        cfg (Config): The config of a run.

    Raises:
        PreflightError: If something changes one image of a pair and not the
            other, or if pairs come where nothing takes them.
    """
    for field in ('train_dataloader', 'val_dataloader'):
        for key, dataset in datasets_of(f'{field}.dataset',
                                        (cfg.get(field)
                                         or {}).get('dataset', {})):
            steps = dataset.get('pipeline') or ()
            if 'PackPairedInputs' in map(_name, steps):
                _check_taken(cfg, key)
                _check_steps(f'{key}.pipeline', steps)
                if field == 'val_dataloader':
                    _check_drawing(cfg, key)
    if not _takes_pairs(cfg):
        return
    for number, hook in enumerate(cfg.get('custom_hooks') or ()):
        recipes = hook.get('schedule') if isinstance(hook, dict) else None
        for index, recipe in enumerate(recipes or ()):
            if isinstance(recipe, dict):
                _check_recipe(f'custom_hooks.{number}.schedule.{index}',
                              recipe)


def _check_recipe(key: str, recipe: dict) -> None:
    if recipe.get('batch_augments'):
        raise PreflightError(
            f'{key} switches to Mixup or CutMix, which mix the student\'s '
            "images and not the teacher's: remove batch_augments from it")
    steps = recipe.get('train_pipeline')
    if steps and 'PackPairedInputs' not in map(_name, steps):
        raise PreflightError(
            f'{key}.train_pipeline gives the teacher no images: end it with '
            "dict(type='PackPairedInputs')")
    if steps:
        _check_steps(f'{key}.train_pipeline', steps)


def _takes_pairs(cfg: Config) -> bool:
    return _name(preprocessor_of(cfg) or {}) == PairedDataPreprocessor.__name__


def _check_drawing(cfg: Config, key: str) -> None:
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if isinstance(hook, dict) and hook.get('enable'):
        raise PreflightError(
            f'default_hooks.visualization draws a single input, and {key} '
            'yields two: set its enable=False, or end the pipeline of '
            'validation with PackInputs')


def _check_taken(cfg: Config, key: str) -> None:
    if 'teacher' not in cfg.model:
        raise PreflightError(
            f'{key} yields an input for a teacher, and {cfg.model.get("type")}'
            ' has none: end its pipeline with PackInputs')
    if not _takes_pairs(cfg):
        raise PreflightError(
            f'{key} yields an input for the student and one for the teacher: '
            "set data_preprocessor.type='PairedDataPreprocessor', or end its "
            'pipeline with PackInputs')


def _check_steps(key: str, steps: list) -> None:
    for index, step in enumerate(steps):
        where, name = f'{key}.{index}', _name(step)
        if name == 'TransformBroadcaster':
            _check_broadcaster(where, step)
        elif name != 'ApplyToBoth':
            for inner in _names(step):
                if any(word in inner for word in MOVES):
                    raise PreflightError(
                        f"{where}: {inner} changes where things are in the "
                        "student's image, and not in the teacher's: move it "
                        "into dict(type='ApplyToBoth', transforms=[...])")


def check_pairs(model: nn.Module, field: str, loader: DataLoader) -> None:
    """Pairs come from the pipeline if the data preprocessor takes them.

    Args:
        model (nn.Module): The model.
        field (str): Config key of the dataloader.
        loader (DataLoader): The dataloader.

    Raises:
        PreflightError: If it gets none in training, or the teacher's images
            have other channels than the teacher takes, or another padding
            than the student's.
    """
    inputs = loader.dataset[0].get('inputs')
    if not isinstance(model.data_preprocessor, PairedDataPreprocessor):
        return
    if not isinstance(inputs, Mapping):
        if field == 'train_dataloader':
            raise PreflightError(
                'data_preprocessor is a PairedDataPreprocessor, and '
                f'{field}.dataset yields a single input: end its pipeline '
                "with dict(type='PackPairedInputs')")
        return
    if not hasattr(model, 'teacher'):
        raise PreflightError(
            f'{field}.dataset yields an input for a teacher, and '
            f'{type(model).__name__} has none: end its pipeline with '
            'PackInputs')
    members = members_of(model.teacher)
    views = getattr(model.teacher, 'views', ['teacher'])
    for number, (network, view) in enumerate(zip(members, views)):
        if view == 'teacher':
            prefix = 'model.teacher' if len(members) == 1 else (
                f'model.teacher.teachers.{number}')
            _check_channels(f'{field}.dataset', inputs['teacher'], network,
                            prefix)
            _check_padding(f'{field}.dataset', inputs, model, network, prefix)


def _check_channels(key: str, image: Tensor, network: nn.Module,
                    prefix: str) -> None:
    title = f"the teacher's images of {key} have {len(image)} channels"
    mean = getattr(network.data_preprocessor, 'mean', None)
    if isinstance(mean, Tensor) and mean.numel() not in (1, len(image)):
        raise PreflightError(
            f'{title}, {prefix}.data_preprocessor.mean has {mean.numel()} '
            'numbers: give mean and std one number, or one for each channel, '
            'or correct color_type of LoadTeacherImage')
    first = next(
        (module
         for module in network.modules() if isinstance(module, nn.Conv2d)),
        None)
    if first is not None and first.in_channels != len(image):
        raise PreflightError(
            f'{title}, the teacher {type(network).__name__} takes '
            f'{first.in_channels}: correct {prefix}.backbone.in_channels, or '
            "color_type of LoadTeacherImage ('grayscale' for one channel)")


def _check_padding(key: str, inputs: Mapping[str, Tensor], model: nn.Module,
                   network: nn.Module, prefix: str) -> None:
    sizes, shares = [], []
    for image, one in ((inputs['student'], model), (inputs['teacher'],
                                                    network)):
        divisor = getattr(one.data_preprocessor, 'pad_size_divisor', 1)
        size = image.shape[-2:]
        padded = [-(-side // divisor) * divisor for side in size]
        sizes.append('{} x {} become {} x {}'.format(*size, *padded))
        shares.append([whole / side for whole, side in zip(padded, size)])
    if shares[0] != shares[1]:
        raise PreflightError(
            f'pad_size_divisor of data_preprocessor and of '
            f'{prefix}.data_preprocessor pads the images of {key} '
            f"differently, the student's {sizes[0]} and the teacher's "
            f'{sizes[1]}, and cells are compared by their place: set both so '
            'that neither is padded')


def _check_broadcaster(key: str, step: dict) -> None:
    advice = "use dict(type='ApplyToBoth', transforms=[...]) instead"
    if not step.get('share_random_params'):
        raise PreflightError(
            f'{key} is a TransformBroadcaster without share_random_params, '
            "which crops and flips the student's image and the teacher's "
            f'differently: {advice}')
    for name in _names(step.get('transforms')):
        if name.split('/')[-1] in DRAW_ANEW or name.startswith('torchvision/'):
            raise PreflightError(
                f'{key}: {name} in a TransformBroadcaster changes the '
                "student's image and the teacher's differently, even with "
                f'share_random_params: {advice}')


def _names(steps) -> Iterator[str]:
    """Names of transforms, at any depth."""
    if isinstance(steps, dict):
        if _name(steps) == 'ApplyToBoth':
            return
        if 'type' in steps:
            yield _name(steps)
        steps = list(steps.values())
    if isinstance(steps, (list, tuple)):
        for step in steps:
            yield from _names(step)


def _name(step: dict) -> str:
    return str(step.get('type')).split('.')[-1]
