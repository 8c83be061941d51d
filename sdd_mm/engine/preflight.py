# Copyright (c) sdd_mm contributors. All rights reserved.
"""What must be right before a run may touch its work directory."""
import os.path as osp
import pickle
from difflib import get_close_matches
from typing import Iterator, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.datasets import CIFAR10
from torch import nn

from ..models.algorithms import FrozenTeacherDistill, TeacherError

# top-level keys that a config need not have and Runner reads all the same
RUNNER_KEYS = ('auto_scale_lr', 'cfg', 'compile', 'custom_hooks',
               'experiment_name', 'find_unused_parameters', 'launcher',
               'load_from', 'log_processor', 'model_wrapper_cfg',
               'randomness', 'resume', 'runner_type', 'sync_bn',
               'tta_model', 'tta_pipeline', 'work_dir')
FAILURES = (ArithmeticError, AssertionError, AttributeError, ImportError,
            LookupError, OSError, RuntimeError, TypeError, ValueError,
            pickle.UnpicklingError)


class PreflightError(RuntimeError):
    """A set-up that cannot be right, found before anything was written."""


def check_options(cfg: Config, options: Optional[dict]) -> None:
    """Refuse ``--cfg-options`` whose first name the config does not know.

    MMEngine would add the key and never read it.

    Args:
        cfg (Config): The config.
        options (dict, optional): What ``--cfg-options`` parsed.

    Raises:
        PreflightError: If a first name is unknown.
    """
    known = [*cfg.keys(), *RUNNER_KEYS]
    for option in options or {}:
        first = option.split('.')[0]
        if first not in known:
            near = get_close_matches(first, known, n=1)
            hint = f', did you mean {near[0]!r}?' if near else ''
            raise PreflightError(f'--cfg-options {option}: the config has no '
                                 f'key {first!r}{hint}')


def check_training(cfg: Config) -> None:
    """Check data, model, teacher and the checkpoint to resume from.

    Args:
        cfg (Config): The config of a run, with ``work_dir``.

    Raises:
        PreflightError: If something is absent, unreadable or does not fit.
    """
    with _scope(cfg):
        model = _build_model(cfg)
        for field in ('train_dataloader', 'val_dataloader'):
            _check_data(cfg, field, model)
        if isinstance(model, FrozenTeacherDistill):
            try:
                model.load_teacher()
            except TeacherError as error:
                raise PreflightError(str(error)) from error
    checkpoint = cfg.get('load_from')
    if cfg.get('resume') and checkpoint is None:
        checkpoint = find_latest_checkpoint(cfg.work_dir)
    if checkpoint is not None:
        _read(checkpoint, '--resume' if cfg.get('resume') else 'load_from')


def check_testing(cfg: Config) -> None:
    """Check data, model and the checkpoint to test, every weight of it.

    Args:
        cfg (Config): The config, with ``load_from``.

    Raises:
        PreflightError: If something is absent, unreadable or does not fit.
    """
    with _scope(cfg):
        model = _build_model(cfg)
        _check_data(cfg, 'test_dataloader', model)
    content = _read(cfg.load_from, 'checkpoint')
    weights = content.get('state_dict', content)
    try:
        result = model.load_state_dict(weights, strict=False)
    except FAILURES as error:
        raise PreflightError(f'checkpoint {cfg.load_from} does not fit '
                             f'the model of the config: {error}') from error
    problems = [
        f'{len(names)} {kind}: {", ".join(names[:5])}'
        f'{", ..." if len(names) > 5 else ""}'
        for kind, names in (('weights are missing', result.missing_keys),
                            ('are not in the model', result.unexpected_keys))
        if names
    ]
    if problems:
        raise PreflightError(
            f'checkpoint {cfg.load_from} does not fit the model of the '
            f'config: {"; ".join(problems)}. A distilled student is tested '
            'with the config that it was distilled with')


def _scope(cfg: Config):
    return DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))


def _build_model(cfg: Config) -> nn.Module:
    model = cfg.model.copy()
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    try:
        # as the run itself will, and without moving its random numbers
        with torch.random.fork_rng(devices=[]):
            return MODELS.build(model)
    except FAILURES as error:
        raise PreflightError('the model cannot be built (config key `model`):'
                             f' {_says(error)}') from error


def _check_data(cfg: Config, field: str, model: nn.Module) -> None:
    if cfg.get(field) is None:
        return
    for key, dataset_cfg in _datasets(f'{field}.dataset', cfg[field].dataset):
        lazy = dict(dataset_cfg, lazy_init=True)
        try:
            dataset = DATASETS.build(lazy)
        except FAILURES as error:
            raise PreflightError(f'the dataset of {key} cannot be built: '
                                 f'{_says(error)}') from error
        if not getattr(dataset, 'download', False):
            for name, path in _paths(dataset):
                if path and '://' not in path and not osp.exists(path):
                    raise PreflightError(
                        f'the {name} of {key} ({type(dataset).__name__}) does '
                        f'not exist: {path}. Set {key}.data_root (and that of '
                        'the other dataloaders) to where the data is, for '
                        f'instance by --cfg-options {key}.data_root=PATH')
        _check_classes(key, dataset, model)


def _datasets(key: str, cfg: dict) -> Iterator[Tuple[str, dict]]:
    """The data sets inside wrappers, each with its config key."""
    if 'datasets' in cfg:
        for index, inner in enumerate(cfg['datasets']):
            yield from _datasets(f'{key}.datasets.{index}', inner)
    elif 'dataset' in cfg:
        yield from _datasets(f'{key}.dataset', cfg['dataset'])
    else:
        yield key, cfg


def _paths(dataset) -> Iterator[Tuple[str, str]]:
    yield 'data_root', getattr(dataset, 'data_root', '')
    if isinstance(dataset, CIFAR10):  # and its subclasses
        yield 'folder', osp.join(dataset.data_prefix['root'],
                                 dataset.base_folder)
        return
    yield 'annotation file', getattr(dataset, 'ann_file', '')
    yield 'image folder', getattr(dataset, 'img_prefix', '')


def _check_classes(key: str, dataset, model: nn.Module) -> None:
    classes = (dataset.metainfo or {}).get('classes')
    student = getattr(model, 'architecture', model)
    outputs = getattr(getattr(student, 'head', None), 'num_classes', None)
    if classes is not None and outputs is not None and len(classes) > outputs:
        raise PreflightError(
            f'{key} ({type(dataset).__name__}) has {len(classes)} classes, '
            f'the head of {type(student).__name__} {outputs}: set `num_classes` '
            'of the heads and of data_preprocessor')


def _read(checkpoint: str, key: str) -> dict:
    try:
        return CheckpointLoader.load_checkpoint(
            checkpoint, map_location='cpu', logger='silent')
    except (*FAILURES, EOFError) as error:
        raise PreflightError(f'{key} {checkpoint} cannot be read: '
                             f'{_says(error)}') from error


def _says(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}'
