# Copyright (c) sdd_mm contributors. All rights reserved.
"""The weights that timm would download, where they are on this machine.

``timm.create_model(NAME, pretrained=True)`` looks into the caches of
huggingface_hub and torch before it downloads. Here nothing is downloaded.
"""
import os.path as osp
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple
from urllib.parse import urlparse

import torch
from torch import nn

from ..safety import UnsafeFileError, compare_hash, names_hash
from .checkpoint import ConversionError
from .timm_classifier import convert_timm, create

# the file that timm prefers to one of the default name
SAFE = {
    'pytorch_model.bin': 'model.safetensors',
    'open_clip_pytorch_model.bin': 'open_clip_model.safetensors'
}


class AbsentWeightsError(ConversionError):
    """Weights that would have to be downloaded."""


def convert_timm_pretrained(model_name: str,
                            num_classes: int) -> Tuple[dict, Path]:
    """Convert the weights of a timm model that are in a cache.

    Args:
        model_name (str): Its name in timm, with a tag or without.
        num_classes (int): Number of classes that they must have.

    Returns:
        tuple[dict, Path]: The checkpoint, as of
        :func:`~sdd_mm.converters.timm_classifier.convert_timm`, and the file
        that it was read from.

    Raises:
        AbsentWeightsError: If the weights are in no cache, or if they are
            of another number of classes.
        ConversionError: If they do not fit.
    """
    defaults = create(model_name, 1000).pretrained_cfg
    if defaults['num_classes'] != num_classes:
        raise AbsentWeightsError(
            f'timm\'s weights of {model_name} have {defaults["num_classes"]} '
            f'classes, the student {num_classes}: train it on the classes of '
            'the student first')
    path = cached_file(model_name, defaults)
    given = dict(source='')
    if defaults.get('custom_load') and path.suffix in ('.npz', '.npy'):
        given['file'] = str(path)
    else:
        from timm.models import load_state_dict
        try:
            given['state_dict'] = load_state_dict(str(path), weights_only=True)
        except Exception as error:  # a broken file may raise anything
            raise ConversionError(
                f'{path} cannot be read: {type(error).__name__}: '
                f'{error}') from error
    try:
        model = _load(model_name, num_classes, given)
        checkpoint = convert_timm(model_name, model.state_dict())
    except Exception as error:  # timm raises anything
        raise ConversionError(f'{path} as a {model_name} of timm: '
                              f'{" ".join(str(error).split())}') from error
    checkpoint['meta']['converted_from'] = path.name
    return checkpoint, path


def cached_file(model_name: str, defaults: dict) -> Path:
    """The file of a timm model's weights in a cache.

    Args:
        model_name (str): The model's name in timm, for messages.
        defaults (dict): Its ``pretrained_cfg``.

    Returns:
        Path: The file in the cache of huggingface_hub or, if it is not
        there, in that of ``torch.hub``.

    Raises:
        AbsentWeightsError: If it is in neither.
        ConversionError: If it is damaged.
    """
    hub, url = defaults.get('hf_hub_id'), defaults.get('url')
    if hub:
        path = _in_hub(hub, defaults)
        if path is not None:
            return path
    if url:
        name = osp.basename(urlparse(url).path)
        path = Path(torch.hub.get_dir(), 'checkpoints', name)
        if path.is_file():
            if names_hash(name):
                try:
                    compare_hash(path)
                except UnsafeFileError as error:
                    raise ConversionError(str(error)) from error
            return path
    if not hub and not url:
        raise AbsentWeightsError(f'timm has no weights of {model_name}')
    first = next(_names(defaults))
    where = f'`hf download {hub} {first}`' if hub else (
        f'{url} to {torch.hub.get_dir()}/checkpoints')
    raise AbsentWeightsError(
        f'the weights of timm\'s {model_name} are not on this machine: '
        f'download {where} and make the config again')


def _in_hub(hub: str, defaults: dict) -> Optional[Path]:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    repo, _, revision = hub.partition('@')
    for name in _names(defaults):
        found: Any = try_to_load_from_cache(
            repo, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _names(defaults: dict) -> Iterator[str]:
    """The names of the file in a repository, in timm's order."""
    name = defaults.get('hf_hub_filename') or 'pytorch_model.bin'
    if name.endswith('.bin') and defaults.get('custom_load') != 'hf':
        yield SAFE.get(name, f'{name[:-4]}.safetensors')
    yield name


def _load(model_name: str, num_classes: int, given: dict) -> nn.Module:
    """The model as timm loads it, filters and all."""
    import timm
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(
            model_name,
            pretrained=True,
            num_classes=num_classes,
            pretrained_cfg_overlay=given)
