# Copyright (c) sdd_mm contributors. All rights reserved.
"""State dicts: read them, strip prefixes, compare them with a model."""
import hashlib
import os
import os.path as osp
from typing import Dict, List, NamedTuple

import torch
from torch import Tensor, nn

from .errors import SDDError
from .safety import load_checkpoint

STUDENT = 'architecture.'
COUNTER = 'num_batches_tracked'
CONVERTERS = ('A checkpoint of RepDistiller, mdistiller, torchvision or timm '
              'must be converted first, by tools/model_converters/')
SHOWN = 10
Weights = Dict[str, Tensor]


class WeightsError(SDDError, RuntimeError):
    """A file that holds no weights, or none that can be read."""


def read_checkpoint(path: str) -> dict:
    """Read a checkpoint of MMEngine.

    Args:
        path (str): Path or URL.

    Returns:
        dict: Its content, with ``state_dict``, named tensors, and ``meta``, a
        dict.

    Raises:
        WeightsError: If it does not exist, cannot be read, or holds no state
            dict.
    """
    path = osp.expanduser(path)
    if '://' not in path and not osp.isfile(path):
        where = '' if osp.isabs(path) else f' in {os.getcwd()}'
        raise WeightsError(f'{path} does not exist{where}')
    try:
        content = load_checkpoint(path, logger='silent')
    except Exception as error:  # a broken file may raise anything
        raise WeightsError(f'{path} cannot be read: {type(error).__name__}: '
                           f'{error}') from error
    if not isinstance(content, dict):
        raise WeightsError(f'{path} holds no state dict of tensors. '
                           f'{CONVERTERS}')
    if 'state_dict' not in content:
        content = dict(state_dict=content)
    weights = content['state_dict']
    if not isinstance(weights, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in weights.items()):
        raise WeightsError(f'{path} holds no state dict of tensors. '
                           f'{CONVERTERS}')
    meta = content.get('meta') or {}
    if not isinstance(meta, dict):
        raise WeightsError(f'{path} is damaged: its meta is a '
                           f'{type(meta).__name__}, not a dict')
    return dict(
        content, meta=meta, state_dict=strip_prefix(weights, 'module.'))


def strip_prefix(weights: Weights, prefix: str) -> Weights:
    """Weights without a prefix of their names, such as DataParallel's."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
    }


def select(weights: Weights, prefix: str) -> Weights:
    """The weights of one part, under their names in it."""
    return {
        name[len(prefix):]: value
        for name, value in weights.items() if name.startswith(prefix)
    }


def network_weights(weights: Weights) -> Weights:
    """The weights of a network, or of the student if it was distilled."""
    weights = select(weights, STUDENT) or weights
    return {
        name: value
        for name, value in weights.items()
        if not name.startswith('data_preprocessor.')
    }


class Misfits(NamedTuple):
    """Where a state dict does not fit a model; empty if it fits.

    Args:
        missing (list[str]): Weights of the model that it lacks, but for
            counters of batch norm, which old checkpoints lack.
        left_over (list[str]): Its weights that the model lacks.
        shapes (list[str]): Weights of another shape, with both shapes.
        unsound (list[str]): Weights that are not finite, or integers where
            the model has floating point numbers.
    """
    missing: List[str]
    left_over: List[str]
    shapes: List[str]
    unsound: List[str]

    def __bool__(self) -> bool:
        return any(self)

    def __str__(self) -> str:
        titles = ('missing', 'not in the model', 'of another shape',
                  'not finite floating point numbers')
        return '; '.join(f'{count(names)} {title}: {listed(names)}'
                         for names, title in zip(self, titles) if names)


def misfits(weights: Weights, model: nn.Module) -> Misfits:
    """Compare a state dict with a model, name by name."""
    own = model.state_dict()
    return Misfits(
        [n for n in own if n not in weights and not n.endswith(COUNTER)],
        [name for name in weights if name not in own], [
            f'{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}'
            for name, value in weights.items()
            if name in own and value.shape != own[name].shape
        ], [
            name for name, value in weights.items()
            if name in own and is_unsound(value, own[name])
        ])


def is_unsound(value: Tensor, like: Tensor) -> bool:
    """Whether a weight is not finite, or not of the kind of ``like``."""
    return (value.is_floating_point() != like.is_floating_point()
            or not value.isfinite().all().item())


def count(names: list) -> str:
    """How many weights, and the verb that follows."""
    return '1 weight is' if len(names) == 1 else f'{len(names)} weights are'


def listed(names: list) -> str:
    """Names for a message."""
    return ', '.join(map(str, names[:SHOWN])) + ', ...' * (len(names) > SHOWN)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of a model's weights: names, dtypes, shapes and values."""
    return state_hash(model.state_dict())


def state_hash(weights: Weights) -> str:
    """SHA-256 of a state dict, as of :func:`weights_hash`."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        if name.endswith(COUNTER):
            continue
        value = value.detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def network_hash(model: nn.Module) -> str:
    """SHA-256 of a model's printed module tree."""
    return hashlib.sha256(repr(model).encode()).hexdigest()
