# Copyright (c) sdd_mm contributors. All rights reserved.
"""What must be right before a run may touch its work directory."""
import os
from typing import NamedTuple

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin
from torch import nn

from ..images import channel_order
from ..input_format import stated_mismatch
from ..models.algorithms import FrozenTeacherDistill, TeacherError
from .config_data import check_data
from .config_parts import build_loops, build_model, build_parts
from .config_values import check_values
from .config_weights import check_pretrained, check_start, check_tested
from .errors import PreflightError
from .random_state import RandomState


class Checked(NamedTuple):
    """A model that was built to check a config.

    Args:
        model (nn.Module): The model, with its teacher loaded.
        before (RandomState): The random numbers when it was built.
        after (RandomState): Those that came next.
    """
    model: nn.Module
    before: RandomState
    after: RandomState


def hand_over(runner: type, checked: Checked) -> type:
    """A runner class that takes the checked model instead of building it.

    It is the same run, to the bit: the model is taken only where the runner's
    own would draw the same random numbers, and those that follow are drawn
    next. So every process of several builds its own where their seeds differ.

    Args:
        runner (type): A class of runners, such as MMEngine's ``Runner``.
        checked (Checked): From :func:`check_training`, of the same config.

    Returns:
        type: Its subclass. Its ``from_cfg()`` makes one run.
    """
    # what a model knows of the run comes from the run's own hub and logger
    knows = any(
        isinstance(value, ManagerMixin) for module in checked.model.modules()
        for value in vars(module).values())

    class HandedOver(runner):

        def build_model(self, model):
            """The checked model, if the seeds are the same."""
            if knows or RandomState.now() != checked.before:
                return super().build_model(model)
            checked.after.restore()
            taken = checked.model
            if getattr(taken, 'teacher_ckpt', None) and taken.teacher_hash:
                taken.teacher_is_loaded = True
            return taken

    return HandedOver


def check_training(cfg: Config) -> Checked:
    """Build every part of a config and collate a batch of its data.

    Nothing is written, only a teacher's checkpoint is downloaded, and the
    random numbers of the process are as before.

    Args:
        cfg (Config): The config of a run, with ``work_dir``.

    Returns:
        Checked: The model, for :func:`hand_over`.

    Raises:
        PreflightError: If something is unknown, absent, unreadable or does
            not fit.
    """
    check_values(cfg)
    with _scope(cfg), RandomState.kept():
        before = RandomState.seeded((cfg.get('randomness') or {}).get('seed'))
        model = build_model(cfg)
        checked = Checked(model, before, RandomState.now())
        runner = build_parts(cfg, model)
        _check_ema(cfg, model)
        loaders = check_data(cfg, model)
        if loaders['train_dataloader'] is not None:
            build_loops(cfg, runner, loaders)
    loaded = channel_order(cfg.train_dataloader)
    if isinstance(model, FrozenTeacherDistill) and _reads_teacher(model):
        try:
            model.load_teacher()
        except TeacherError as error:
            raise PreflightError(str(error)) from error
        mismatch = stated_mismatch(model.teacher, model.teacher_meta, loaded)
        if mismatch:
            raise PreflightError(
                f'teacher checkpoint {model.teacher_ckpt}: {mismatch}. Set '
                'model.teacher.data_preprocessor.to_rgb, and the student\'s '
                'data_preprocessor.to_rgb, to what the data set needs')
    check_pretrained(model, loaded)
    check_start(cfg, model, loaded)
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
        check_data(cfg, model, ('test_dataloader', ))
    check_tested(cfg.load_from, model, channel_order(cfg.test_dataloader))


def _check_ema(cfg: Config, model: nn.Module) -> None:
    """The averaged model and the student's have one teacher."""
    if not isinstance(model, FrozenTeacherDistill):
        return
    hooks = (cfg.get('custom_hooks') or (), (cfg.get('default_hooks')
                                             or {}).values())
    for hook in (hook for some in hooks for hook in some):
        if not isinstance(hook, dict):
            continue
        name = str(hook.get('type')).split('.')[-1]
        if name == 'EMAHook' and hook.get('device') is not None:
            raise PreflightError(
                f"custom_hooks: EMAHook(device={hook['device']!r}) would move "
                'the teacher, which the averaged model shares: leave device '
                'out')


def _reads_teacher(model: FrozenTeacherDistill) -> bool:
    """Whether this process reads the teacher's checkpoint.

    One process of a machine downloads it, the others find it there.
    """
    return '://' not in (model.teacher_ckpt or '') or os.environ.get(
        'LOCAL_RANK', '0') == '0'


def _scope(cfg: Config):
    return DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))
