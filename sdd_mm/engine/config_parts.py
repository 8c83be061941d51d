# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every part of a config, built as MMEngine's runner builds it."""
import copy
import inspect
import logging
from typing import Any, Callable, Dict

from mmengine.config import Config
from mmengine.registry import MODELS, OPTIMIZERS, RUNNERS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from .building import building
from .config_keys import as_list
from .config_values import whole
from .errors import PreflightError
from ..runtime.utils import num_classes


def build_model(cfg: Config) -> nn.Module:
    """The model of a config.

    Raises:
        PreflightError: If it cannot be built.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor',
                         copy.deepcopy(cfg.data_preprocessor))
    with building('model', copy.deepcopy(model)):
        return MODELS.build(model)


def build_parts(cfg: Config, model: nn.Module) -> Runner:
    """Build what needs no data: optimizer, hooks, metrics, visualizer.

    Args:
        cfg (Config): The config of a run.
        model (nn.Module): Its model.

    Returns:
        Runner: A runner with these parts alone. It has not been initialized,
        since that would seed, start processes and write.

    Raises:
        PreflightError: If a part cannot be built.
    """
    kind = Runner
    if 'runner_type' in cfg:
        with building('runner_type', cfg.runner_type):
            kind = RUNNERS.get(cfg.runner_type) or Runner
    runner = kind.__new__(kind)
    runner.model, runner._hooks = model, []
    runner._experiment_name, runner._log_dir = 'check', cfg.get('work_dir')
    runner.logger = logging.getLogger(__name__)
    _build(cfg, 'log_level', lambda level: logging.Logger('check', level))
    _build(cfg, 'log_processor', runner.build_log_processor)
    _bind(cfg, 'randomness', runner.set_randomness)
    clip = cfg.optim_wrapper.get('clip_grad') or {}
    _bind(
        cfg, 'optim_wrapper.clip_grad', clip_grad_value_
        if clip.get('type') == 'value' else clip_grad_norm_)
    _build(cfg, 'optim_wrapper.optimizer', _look_up)
    runner.optim_wrapper = _build(cfg, 'optim_wrapper',
                                  runner.build_optim_wrapper)
    try:
        runner.visualizer = _build(cfg, 'visualizer', runner.build_visualizer)
        _build_hooks(cfg, runner)
    finally:
        for kind in {Visualizer, type(getattr(runner, 'visualizer', None))}:
            getattr(kind, '_instance_dict', {}).pop('check', None)
    runner._val_evaluator = _build(cfg, 'val_evaluator',
                                   runner.build_evaluator)
    _check_topk(cfg, model)
    return runner


def build_loops(cfg: Config, runner: Runner,
                loaders: Dict[str, DataLoader]) -> None:
    """Build what also needs data: loops and schedules.

    Args:
        cfg (Config): The config of a run.
        runner (Runner): From :func:`build_parts`.
        loaders (dict[str, DataLoader]): The dataloaders by their config keys.

    Raises:
        PreflightError: If a part cannot be built.
    """
    runner._train_dataloader = loaders['train_dataloader']
    runner._val_dataloader = loaders.get('val_dataloader')
    runner._train_loop = _build(cfg, 'train_cfg', runner.build_train_loop)
    _build(cfg, 'val_cfg', runner.build_val_loop)
    _build(cfg, 'param_scheduler', lambda config: runner.build_param_scheduler(
        config if isinstance(config, dict) else as_list(config)))


def _build(cfg: Config, key: str, build: Callable, function=None) -> Any:
    """Build one part, if the config has it."""
    config: Any = cfg
    for name in key.split('.'):
        config = config.get(name)
        if config is None:
            return None
    with building(key, config, function):
        return build(copy.deepcopy(config))


def _bind(cfg: Config, key: str, function: Callable) -> None:
    """Check the names of arguments of a function that is called later."""
    bind = inspect.signature(function).bind_partial
    _build(
        cfg, key, lambda config: bind(
            **{name: config[name]
               for name in config if name != 'type'}), function)


def _build_hooks(cfg: Config, runner: Runner) -> None:
    hooks = {
        f'default_hooks.{name}': hook
        for name, hook in (cfg.get('default_hooks') or {}).items()
    }
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        hooks[f'custom_hooks.{index}'] = hook
    for key, hook in hooks.items():
        if hook is None:
            try:
                runner.register_default_hooks({key.split('.')[1]: None})
            except AssertionError as error:
                raise PreflightError(
                    f'{key} is None, which only leaves out hooks that '
                    'MMEngine has by itself: delete the key') from error
        else:
            with building(key, hook):
                runner.register_hook(copy.deepcopy(hook))


def _look_up(optimizer: dict) -> None:
    """MMEngine does not say which one is unknown."""
    with OPTIMIZERS.switch_scope_and_registry(None) as registry:
        name = optimizer['type']
        if isinstance(name, str) and registry.get(name) is None:
            raise KeyError(f'{name} is not in the optimizer registry')


def _check_topk(cfg: Config, model: nn.Module) -> None:
    """Metrics are built with any topk, and fail after the first epoch."""
    classes = num_classes(model)
    for metric in as_list(cfg.get('val_evaluator')):
        if not isinstance(metric, dict):
            continue
        topk = metric.get('topk', 1)
        counts = as_list(topk)
        if not all(whole(count, 1) for count in counts):
            raise PreflightError('val_evaluator.topk must be positive '
                                 f'integers, got {topk!r}')
        if classes is not None and max(counts) > classes:
            raise PreflightError(f'val_evaluator.topk is {topk}, and there '
                                 f'are {classes} classes')
