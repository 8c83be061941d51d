# Copyright (c) sdd_mm contributors. All rights reserved.
"""Foreign checkpoints, made MMPretrain's."""
from pathlib import Path
from typing import Dict, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..models.algorithms.teacher import INPUT_NORMALIZATION
from .names import RULES, rename

COUNTER = 'num_batches_tracked'
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# mean and std by which RepDistiller and mdistiller (CIFAR-100, ImageNet),
# SDD's authors (CUB-200) and torchvision normalise, for images of 0 to 255
NORMALIZATIONS = {
    'cifar100':
    tuple(
        tuple(255 * value for value in values)
        for values in ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))),
    'cub200':
    _IMAGENET,
    'imagenet':
    _IMAGENET,
}


class ConversionError(RuntimeError):
    """A checkpoint that is not that of the network."""


def convert_file(source: str,
                 target: str,
                 config: str,
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None) -> None:
    """Convert a checkpoint of RepDistiller, mdistiller or torchvision.

    What is written loads strictly into the network of ``config``, as
    ``model.teacher_ckpt`` or with MMEngine. Its meta states the normalisation
    of the images that the network was trained on, and training refuses
    another one.

    Args:
        source (str): The foreign checkpoint: a state dict, alone or under
            ``model`` or ``state_dict``.
        target (str): Where to write.
        config (str): A file of ``configs/_base_/models/``. Its name ends in
            the data set, which has the default of ``mean`` and ``std``.
        mean (Sequence[float], optional): Mean of the images, RGB, from 0 to
            255. Defaults to that of the data set in the foreign code.
        std (Sequence[float], optional): Their standard deviation. Defaults to
            that of the data set in the foreign code.

    Raises:
        ConversionError: If the file is not a checkpoint of that network.

    Examples:
        >>> convert_file('resnet32x4_vanilla/ckpt_epoch_240.pth',
        ...              'resnet32x4.pth',
        ...              'configs/_base_/models/resnet32x4_cifar100.py')
    """
    normalization = _normalization(Path(config).stem, mean, std)
    (model, ) = Config.fromfile(config).values()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model)
    try:
        weights = convert(_read(source), model)
    except ConversionError as error:
        raise ConversionError(f'{source} does not hold a {Path(config).stem}: '
                              f'{error}') from error
    Path(target).resolve().parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        dict(
            state_dict=weights,
            meta={
                'converted_from': Path(source).name,
                INPUT_NORMALIZATION: normalization
            }), target)


def convert(weights: Dict[str, Tensor], model: nn.Module) -> Dict[str, Tensor]:
    """Rename the weights of a foreign network.

    Args:
        weights (dict[str, Tensor]): The foreign state dict.
        model (nn.Module): MMPretrain's classifier of the same network.

    Returns:
        dict[str, Tensor]: A state dict of ``model``. The counters of
        BatchNorm, which old checkpoints lack, are 0 where they are absent.

    Raises:
        ConversionError: If there are no names for the backbone, or if weights
            are left over, missing or of another shape; all of them are
            listed.
    """
    kind = type(model.backbone).__name__
    if kind not in RULES:
        raise ConversionError(f'there is no table of names for {kind}, only '
                              f'for {", ".join(RULES)}')
    own, found = model.state_dict(), {}
    left_over, shapes = [], []
    for name, value in weights.items():
        module, _, leaf = name.rpartition('.')
        target = f'{rename(RULES[kind], module)}.{leaf}'
        if target not in own:
            left_over.append(name)
            continue
        found[target] = value
        if value.shape != own[target].shape:
            shapes.append(f'{name} {tuple(value.shape)} instead of '
                          f'{tuple(own[target].shape)}')
    missing = [
        name for name in own
        if name not in found and not name.endswith(COUNTER)
    ]
    problems = [
        f'{len(names)} {title}: {", ".join(names)}'
        for title, names in (('weights have no place in it',
                              left_over), ('of its weights are missing (named '
                                           'as in MMPretrain)', missing),
                             ('weights have another shape', shapes)) if names
    ]
    if problems:
        raise ConversionError('; '.join(problems))
    return {name: found.get(name, own[name]) for name in own}


def _normalization(name: str, mean: Optional[Sequence[float]],
                   std: Optional[Sequence[float]]) -> dict:
    if (mean is None) != (std is None):
        raise ConversionError('give both mean and std, or neither')
    if mean is None:
        data = name.rsplit('_', 1)[-1]
        if data not in NORMALIZATIONS:
            raise ConversionError(
                f'{name} does not end in one of {list(NORMALIZATIONS)}: give '
                'mean and std of the images that the network was trained on')
        mean, std = NORMALIZATIONS[data]
    elif max(std) <= 1:
        raise ConversionError(
            f'std {list(std)} is that of images from 0 to 1: multiply mean '
            'and std by 255')
    return dict(mean=list(mean), std=list(std), channel_order='RGB')


def _read(source: str) -> Dict[str, Tensor]:
    """The state dict of a file, without what wrappers put before names."""
    try:
        content = torch.load(source, map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file may raise anything
        raise ConversionError(
            f'it cannot be read: {type(error).__name__}: {error}') from error
    for key in ('model', 'state_dict'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in content.items()):
        raise ConversionError('it holds no state dict of tensors, neither '
                              'alone nor under `model` or `state_dict`')
    weights = _strip('module.', content)
    parts = {name.split('.')[0] for name in weights}
    if 'student' in parts and len(parts) > 1:
        raise ConversionError(
            f'it is a whole distiller ({", ".join(sorted(parts))}). Beside '
            'it, mdistiller writes the student alone: student_best and '
            'student_latest. The teacher has a file of its own')
    return _strip('student.', weights)


def _strip(prefix: str, weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    if not all(name.startswith(prefix) for name in weights):
        return weights
    return {name[len(prefix):]: value for name, value in weights.items()}
