# Copyright (c) sdd_mm contributors. All rights reserved.
"""The checkpoints of a config: those that it starts from, resumes or tests."""
import logging
from typing import List, Optional

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.runner import find_latest_checkpoint
from torch import nn

from ...input_format import stated_mismatch
from ...models.algorithms import TEACHER_META, FrozenTeacherDistill
from ...weights import (CONVERTERS, Weights, WeightsError, misfits,
                        read_checkpoint, select)
from ..config_keys import as_list
from ..errors import PreflightError
from .classes import Classes
from .same_classes import check_checkpoint


def check_pretrained(model: nn.Module, loaded: Optional[str]) -> None:
    """Check the files that ``init_weights()`` starts from.

    The teacher has none. ``loaded`` is the channel order of the images.
    """
    for name, module in model.named_modules():
        if name.split('.')[0] == 'teacher':
            continue
        configs = getattr(module, 'init_cfg', None)
        for config in as_list(configs or []):
            if config.get('type') not in ('Pretrained', PretrainedInit):
                continue
            checkpoint = config['checkpoint']
            if '://' in checkpoint:  # published, so not one that we converted
                continue
            key = '.'.join(filter(None, ('model', name, 'init_cfg')))
            content = _read(key, checkpoint, model, loaded)
            weights, prefix = content['state_dict'], config.get('prefix')
            if prefix:
                weights = select(weights, f'{prefix.rstrip(".")}.')
            _start(
                f'{key} {checkpoint}', weights, module,
                "Does it need another prefix, such as prefix='backbone.'? "
                f'{CONVERTERS}')


def check_start(cfg: Config, model: nn.Module, loaded: Optional[str],
                data: List[Classes]) -> None:
    """Check the checkpoint that a run resumes, or starts from.

    ``data`` are the classes of the training images.
    """
    checkpoint, resume = cfg.get('load_from'), cfg.get('resume', False)
    if resume and checkpoint is None:
        checkpoint = find_latest_checkpoint(cfg.work_dir)
    if checkpoint is None:
        return
    key = '--resume' if resume else 'load_from'
    content = _read(key, checkpoint, model, loaded)
    if resume:
        _check_fit(f'{key} {checkpoint}', content['state_dict'], model,
                   'Resume it with its own config')
        _check_teacher(checkpoint, content['meta'], model)
        check_checkpoint(
            Classes.of_checkpoint(key, checkpoint, content['meta']), data,
            'Resume it with the data that the run began with')
        _check_resumable(cfg, checkpoint, content)
        return
    advice = CONVERTERS
    if isinstance(model, FrozenTeacherDistill):
        advice = ('To start a student from a checkpoint of its plain config, '
                  "set model.architecture.init_cfg=dict(type='Pretrained', "
                  f'checkpoint=PATH). {CONVERTERS}')
    _start(f'{key} {checkpoint}', content['state_dict'], model, advice)


def check_tested(checkpoint: str, model: nn.Module,
                 loaded: Optional[str]) -> Classes:
    """Check the checkpoint that is tested, every weight of it.

    Returns:
        Classes: The classes that it states.
    """
    content = _read('checkpoint', checkpoint, model, loaded)
    _check_fit(
        f'checkpoint {checkpoint}', content['state_dict'], model,
        "Test a run's student with the config of the run, and an exported "
        'one with the config beside it')
    return Classes.of_checkpoint('checkpoint', checkpoint, content['meta'])


def _read(key: str, checkpoint: str, model: nn.Module,
          loaded: Optional[str]) -> dict:
    """A checkpoint of a network with the model's images."""
    try:
        content = read_checkpoint(checkpoint)
    except WeightsError as error:
        raise PreflightError(f'{key} {error}') from error
    mismatch = stated_mismatch(model, content['meta'], loaded)
    if mismatch:
        raise PreflightError(f'{key} {checkpoint}: {mismatch}. Set mean, std '
                             'and to_rgb of the config key data_preprocessor '
                             'to that')
    return content


def _start(title: str, weights: Weights, module: nn.Module,
           advice: str) -> None:
    """Refuse to start from nothing, and say what a checkpoint lacks."""
    found = misfits(weights, module)
    if len(found.left_over) + len(found.shapes) == len(weights):
        raise PreflightError(
            f'{title}: none of its {len(weights)} weights '
            f'({", ".join(list(weights)[:3])}, ...) is one of the '
            f'{type(module).__name__}. {advice}')
    if found.unsound:
        raise PreflightError(f'{title}: {found}')
    if found:
        print_log(
            f'{title} fits in part: {found}',
            logger='current',
            level=logging.WARNING)


def _check_fit(title: str, weights: Weights, model: nn.Module,
               remedy: str) -> None:
    """Every weight of the model, and no other."""
    if isinstance(model, FrozenTeacherDistill):  # it drops a teacher's
        weights = {
            name: value
            for name, value in weights.items()
            if not name.startswith('teacher.')
        }
    found = misfits(weights, model)
    if found:
        raise PreflightError(f'{title} does not fit the model of the config: '
                             f'{found}. {remedy}')


def _check_teacher(checkpoint: str, meta: dict, model: nn.Module) -> None:
    teacher, theirs = getattr(model, 'teacher_hash',
                              None), meta.get(TEACHER_META)
    if not teacher or not theirs or teacher == theirs:
        return
    if model.teacher_ckpt is None:
        raise PreflightError(
            f'--resume {checkpoint}: its teacher was not trained '
            '(model.allow_untrained_teacher), and its random weights are in '
            'no file: such a run cannot be resumed')
    raise PreflightError(
        f'--resume {checkpoint} was distilled from another teacher: SHA-256 '
        f'{theirs}, not {teacher}. Set model.teacher_ckpt to the teacher that '
        'the run began with')


def _check_resumable(cfg: Config, checkpoint: str, content: dict) -> None:
    """All that a run goes on with, not weights alone."""
    wanted = ['state_dict', 'meta', 'message_hub', 'optimizer']
    if cfg.get('param_scheduler'):
        wanted.append('param_schedulers')
    absent = [key for key in wanted if not content.get(key)]
    absent += [
        f'meta.{key}' for key in ('epoch', 'iter')
        if key not in content['meta']
    ]
    if absent:
        raise PreflightError(
            f'--resume {checkpoint} has no {", ".join(absent)}: it was not '
            'saved to be resumed. Resume from an epoch_N.pth, iter_N.pth or '
            'stopped.pth of the run, or start a new run from its weights with '
            'load_from')
