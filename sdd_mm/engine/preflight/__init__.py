# Copyright (c) sdd_mm contributors. All rights reserved.
"""What must be right before a run may touch its work directory."""
import logging
import os
from typing import List, Optional

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ...images import channel_order, teacher_order
from ...input_format import stated_mismatch
from ...models.algorithms import FrozenTeacherDistill, TeacherError
from ...models.algorithms.teacher import as_list, keys_of
from ...models.data_preprocessor import PairedDataPreprocessor
from ...models.losses import ContrastiveLoss
from ...models.networks import members_of
from ..errors import PreflightError
from .checkpoints import check_pretrained, check_start, check_tested
from .classes import Classes
from .data import check_data
from .distilling import check_distilling
from .handover import Checked, RandomState, hand_over
from .methods import check_mixing, without_meaning
from .paired import check_paired_steps
from .parts import build_evaluator, build_loops, build_model, build_parts
from .same_classes import check_checkpoint
from .values import check_values

__all__ = ['Checked', 'check_testing', 'check_training', 'hand_over']


def check_training(cfg: Config) -> Checked:
    """Build every part of a config and collate a batch of its data.

    Nothing is written, only a teacher's checkpoint is downloaded, and the
    random numbers of the process are as before.

    Args:
        cfg (Config): The config of a run.

    Returns:
        Checked: The model, which :func:`hand_over` gives to the run.

    Raises:
        PreflightError: If something is unknown, absent, unreadable or does
            not fit.
    """
    check_values(cfg)
    check_paired_steps(cfg)
    with _scope(cfg), RandomState.kept():
        before = RandomState.seeded((cfg.get('randomness') or {}).get('seed'))
        model = build_model(cfg)
        checked = Checked(model, before, RandomState.now())
        check_mixing(cfg, model)
        runner = build_parts(cfg, model)
        loaders, found = check_data(cfg, model,
                                    ('train_dataloader', 'val_dataloader'))
        if None not in loaders.values():
            build_loops(cfg, runner, loaders)
    loaded = channel_order(cfg.train_dataloader)
    trained = [one for one in found if one.field == 'train_dataloader']
    if isinstance(model, FrozenTeacherDistill):
        _check_ema(cfg, model)
        _check_teacher(model, loaded, teacher_order(cfg.train_dataloader),
                       trained)
        if loaders['train_dataloader'] is not None:
            check_distilling(model, loaders['train_dataloader'], runner.hooks)
    check_pretrained(model, loaded)
    check_start(cfg, model, loaded, trained)
    for sentence in without_meaning(model):
        print_log(sentence, logger='current', level=logging.WARNING)
    return checked


def check_testing(cfg: Config) -> None:
    """Check data, model and the checkpoint to test, every weight of it.

    Args:
        cfg (Config): The config, with ``load_from``.

    Raises:
        PreflightError: If something is absent, unreadable or does not fit.
    """
    with _scope(cfg), RandomState.kept():
        model = build_model(cfg)
        runner = Runner.__new__(Runner)
        runner.model = model
        build_evaluator(cfg, 'test_evaluator', runner)
        tested = check_tested(cfg.load_from, model,
                              channel_order(cfg.test_dataloader))
        check_data(cfg, model, ('test_dataloader', ), tested)


def _check_teacher(model: FrozenTeacherDistill, loaded: Optional[str],
                   theirs: Optional[str], data: List[Classes]) -> None:
    # one process of a machine downloads it, the others find it there
    paths = as_list(model.teacher_ckpt)
    if any('://' in path
           for path in paths) and os.environ.get('LOCAL_RANK', '0') != '0':
        return
    try:
        model.load_teacher()
    except TeacherError as error:
        raise PreflightError(str(error)) from error
    views = getattr(model.teacher, 'views', None)
    for number, (teacher, path, meta, key) in enumerate(
            zip(
                members_of(model.teacher), paths, model.teacher_metas,
                keys_of(model.teacher))):
        own = isinstance(model.data_preprocessor, PairedDataPreprocessor)
        view = views[number] if views else ('teacher' if own else 'student')
        mismatch = stated_mismatch(teacher, meta,
                                   loaded if view == 'student' else theirs)
        if mismatch:
            raise PreflightError(
                f'teacher checkpoint {path}: {mismatch}. Set '
                f"{key}.data_preprocessor.to_rgb, and the student's "
                'data_preprocessor.to_rgb, to what the data set needs')
        check_checkpoint(
            Classes.of_checkpoint('teacher checkpoint', path, meta), data,
            'The student would learn the outputs of other classes: number '
            "the classes of the data as the teacher's training did, or set "
            'model.teacher_ckpt to a teacher of these')


def _check_ema(cfg: Config, model: FrozenTeacherDistill) -> None:
    """The averaged model and the student's have one teacher and memory."""
    memories = [
        loss for loss in model.distiller.distill_losses.values()
        if isinstance(loss, ContrastiveLoss)
    ]
    for hook in (*(cfg.get('custom_hooks') or ()),
                 *(cfg.get('default_hooks') or {}).values()):
        if not isinstance(hook, dict) or 'EMAHook' not in str(hook['type']):
            continue
        if hook.get('device') is not None:
            raise PreflightError(
                f'EMAHook(device={hook["device"]!r}) would move the teacher, '
                'which the averaged model shares: leave device out')
        if memories and hook.get('update_buffers'):
            raise PreflightError(
                'EMAHook(update_buffers=True) would average the memory of '
                'ContrastiveLoss: leave update_buffers out, which copies '
                'buffers')


def _scope(cfg: Config):
    return DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))
