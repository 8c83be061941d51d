# Copyright (c) sdd_mm contributors. All rights reserved.
"""Converts foreign checkpoints to MMPretrain's."""
import argparse
import math
import re
from pathlib import Path
from typing import Dict, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..errors import SDDError
from ..input_format import META, InputFormat
from ..weights import Misfits, misfits, strip_prefix
from .names import RULES, rename

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# mean and std of RepDistiller and mdistiller (CIFAR-100, ImageNet), SDD's
# authors (CUB-200) and torchvision, for images from 0 to 255
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


class ConversionError(SDDError, RuntimeError):
    """A checkpoint that cannot be converted or exported."""


def convert_file(source: str,
                 target: str,
                 config: str,
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None) -> None:
    """Convert a checkpoint of RepDistiller, mdistiller or torchvision.

    The new checkpoint loads strictly into the network of ``config``, as
    ``model.teacher_ckpt`` or with MMEngine. Its meta states the normalization
    of the network's training images, and training with another one is an
    error.

    Args:
        source (str): The foreign checkpoint: a state dict, alone or under
            ``model`` or ``state_dict``.
        target (str): Where to write.
        config (str): A file of ``configs/_base_/models/``, whose name ends in
            the data set.
        mean (Sequence[float], optional): Mean per channel, RGB, of images
            from 0 to 255. Defaults to None: that of the foreign code for the
            data set.
        std (Sequence[float], optional): Standard deviation, likewise.

    Raises:
        ConversionError: If the file is not a checkpoint of that network, if
            mean and std cannot be right, or if ``target`` cannot be written.

    Examples:
        >>> convert_file('resnet32x4_vanilla/ckpt_epoch_240.pth',
        ...              'resnet32x4.pth',
        ...              'configs/_base_/models/resnet32x4_cifar100.py')
    """
    images = _input_format(Path(config).stem, mean, std)
    models = list(Config.fromfile(config).values())
    if len(models) != 1:
        raise ConversionError(f'{config} does not hold a single model, as the '
                              'files of configs/_base_/models/ do')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(models[0])
    try:
        weights = convert(_read(source), model)
    except ConversionError as error:
        raise ConversionError(f'{source} does not hold a {Path(config).stem}: '
                              f'{error}') from error
    write(
        target,
        dict(
            state_dict=weights,
            meta={
                'converted_from': Path(source).name,
                META: images.meta()
            }))


def write(target: str, checkpoint: dict) -> None:
    """Write a checkpoint, and its folder if it does not exist.

    Args:
        target (str): The file to write.
        checkpoint (dict): Its content.

    Raises:
        ConversionError: If it cannot be written there.
    """
    try:
        Path(target).resolve().parent.mkdir(parents=True, exist_ok=True)
        with open(target, 'wb') as file:
            torch.save(checkpoint, file)
    except OSError as error:
        raise ConversionError(f'{target} cannot be written: {error}') from None


def convert(weights: Dict[str, Tensor], model: nn.Module) -> Dict[str, Tensor]:
    """Rename the weights of a foreign network.

    Args:
        weights (dict[str, Tensor]): The foreign state dict.
        model (nn.Module): MMPretrain's classifier of the same network.

    Returns:
        dict[str, Tensor]: A state dict of ``model``, in its precision.
        Counters of batch norm that an old checkpoint lacks are 0.

    Raises:
        ConversionError: If there is no table of names for the backbone, or if
            weights are left over, missing, of another shape, not finite or
            not floating point numbers; all of them are listed.
    """
    kind = type(model.backbone).__name__
    if kind not in RULES:
        raise ConversionError(f'there is no table of names for {kind}, only '
                              f'for {", ".join(RULES)}')
    own = model.state_dict()
    if set(weights) & set(own):
        raise ConversionError('its names already are MMPretrain\'s')
    found = {}
    for name, value in weights.items():
        module, _, leaf = name.rpartition('.')
        target = f'{rename(RULES[kind], module)}.{leaf}'
        # a name without a place is listed as it is
        found[target if target in own else name] = value
    refuse(misfits(found, model))
    return {
        name: found.get(name, value).to(value.dtype)
        for name, value in own.items()
    }


def refuse(found: Misfits) -> None:
    """Raise a ``ConversionError`` that lists misfits, if there are any."""
    if found:
        raise ConversionError(str(found))


def _input_format(name: str, mean: Optional[Sequence[float]],
                  std: Optional[Sequence[float]]) -> InputFormat:
    if (mean is None) != (std is None):
        raise ConversionError('pass both mean and std, or neither')
    if mean is None:
        data = name.rsplit('_', 1)[-1]
        if data not in NORMALIZATIONS:
            raise ConversionError(
                f'{name} does not end in one of {list(NORMALIZATIONS)}: pass '
                'mean and std of the images that the network was trained on')
        mean, std = NORMALIZATIONS[data]
    elif not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ConversionError(f'mean {list(mean)} and std {list(std)} must be '
                              'finite, and std positive')
    elif max(std) <= 1 or 0 < max(mean) <= 1:
        raise ConversionError(
            f'mean {list(mean)} and std {list(std)} are not both for images '
            'from 0 to 255: multiply those for images from 0 to 1 by 255')
    return InputFormat(tuple(mean), tuple(std), channel_order='RGB')


def _read(source: str) -> Dict[str, Tensor]:
    """The state dict of a file, without the prefixes of wrappers."""
    content = _load(source)
    while isinstance(content, dict):
        inner = next((content[key] for key in ('model', 'state_dict')
                      if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in content.items()):
        found = (f'the keys {", ".join(map(str, content))}' if isinstance(
            content, dict) else f'a {type(content).__name__}')
        raise ConversionError('it holds no state dict of tensors, neither '
                              'alone nor under `model` or `state_dict`, but '
                              f'{found}')
    weights = _strip(content, 'module.', '_orig_mod.')
    parts = {name.split('.')[0] for name in weights}
    if 'student' in parts and len(parts) > 1:
        raise ConversionError(
            f'it holds a whole distiller ({", ".join(sorted(parts))}): use '
            'student_best or student_latest, which mdistiller writes beside '
            'it and which hold the student alone')
    return _strip(weights, 'student.', 'module.', '_orig_mod.')


def _load(source: str):
    """The content of a file that holds nothing but data.

    RepDistiller keeps an ``argparse.Namespace`` beside the weights.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(source, map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file may raise anything
        lines = str(error).splitlines() or ['']
        named = re.search(r'(?:GLOBAL|Unsupported class) (\S+)', str(error))
        if named:
            raise ConversionError(
                f'it holds a {named[1]}, and loading that could run code: '
                'where it was written, save the state dict alone with '
                'torch.save(model.state_dict(), PATH)') from None
        raise ConversionError(f'it cannot be read: {type(error).__name__}: '
                              f'{lines[0]}') from error


def _strip(weights: Dict[str, Tensor], *prefixes: str) -> Dict[str, Tensor]:
    """Weights without the prefixes that all of their names share."""
    for prefix in prefixes:
        if all(name.startswith(prefix) for name in weights):
            return _strip(strip_prefix(weights, prefix), *prefixes)
    return weights
