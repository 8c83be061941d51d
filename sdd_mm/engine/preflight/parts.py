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

from ...runtime.utils import num_classes
from ..config_keys import as_list
from ..errors import PreflightError
from .building import building, look_up
from .values import whole


def build_model(cfg: Config) -> nn.Module:
    """The model of a config."""
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor',
                         copy.deepcopy(cfg.data_preprocessor))
    with building('model', copy.deepcopy(model)):
        return MODELS.build(model)


def build_parts(cfg: Config, model: nn.Module) -> Runner:
    """Build what needs no data: optimizer, hooks, metrics, visualizer.

    Returns:
        Runner: A runner with these parts. It was not initialized, which would
        seed, start processes and write.
    """
    with building('runner_type', cfg.get('runner_type')):
        kind = look_up(RUNNERS, cfg.get('runner_type', 'Runner'))
    runner = kind.__new__(kind)
    runner.model, runner._hooks = model, []
    runner._experiment_name, runner._log_dir = 'check', cfg.get('work_dir')
    runner.logger = logging.getLogger(__name__)
    _build(cfg, 'log_level', lambda level: logging.Logger('check', level))
    _build(cfg, 'log_processor', runner.build_log_processor)
    _bind(cfg, 'randomness', runner.set_randomness)
    clip = cfg.optim_wrapper.get('clip_grad') or {}
    by_value = clip.get('type') == 'value'
    _bind(cfg, 'optim_wrapper.clip_grad',
          clip_grad_value_ if by_value else clip_grad_norm_)
    # MMEngine does not say which optimizer is unknown
    _build(cfg, 'optim_wrapper.optimizer',
           lambda optimizer: look_up(OPTIMIZERS, optimizer['type']))
    runner.optim_wrapper = _build(cfg, 'optim_wrapper',
                                  runner.build_optim_wrapper)
    visualizer = cfg.get('visualizer')
    if isinstance(visualizer, dict):  # not the name of the run's own
        visualizer = dict(copy.deepcopy(visualizer), name='check')
    try:
        with building('visualizer', visualizer):
            runner.visualizer = runner.build_visualizer(visualizer)
        _build_hooks(cfg, runner)
    finally:
        for kind in (Visualizer, *Visualizer.__subclasses__()):
            kind._instance_dict.pop('check', None)
    runner._val_evaluator = _build(cfg, 'val_evaluator',
                                   runner.build_evaluator)
    _check_topk(cfg, model)
    return runner


def build_loops(cfg: Config, runner: Runner,
                loaders: Dict[str, DataLoader]) -> None:
    """Build what also needs data, for a runner of :func:`build_parts`."""
    runner._train_dataloader = loaders['train_dataloader']
    runner._val_dataloader = loaders.get('val_dataloader')
    runner._train_loop = _build(cfg, 'train_cfg', runner.build_train_loop)
    _build(cfg, 'val_cfg', runner.build_val_loop)
    _build(
        cfg, 'param_scheduler', lambda config: runner.build_param_scheduler(
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
    """Check the arguments of a function that is called later."""

    def bind(config: dict) -> None:
        config.pop('type', None)
        inspect.signature(function).bind_partial(**config)

    _build(cfg, key, bind, function)


def _build_hooks(cfg: Config, runner: Runner) -> None:
    hooks = {
        f'default_hooks.{name}': hook
        for name, hook in (cfg.get('default_hooks') or {}).items()
    }
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        hooks[f'custom_hooks.{index}'] = hook
    for key, hook in hooks.items():
        if hook is not None:
            with building(key, hook):
                runner.register_hook(copy.deepcopy(hook))
            continue
        try:
            runner.register_default_hooks({key.split('.')[1]: None})
        except AssertionError as error:
            raise PreflightError(
                f'{key} is None, which only leaves out the hooks that '
                'MMEngine has by itself: delete the key') from error


def _check_topk(cfg: Config, model: nn.Module) -> None:
    """Metrics are built with any topk, and fail after the first epoch."""
    classes = num_classes(model)
    for metric in as_list(cfg.get('val_evaluator')):
        topk = metric.get('topk') if isinstance(metric, dict) else None
        if topk is None:
            continue
        if not all(whole(count, 1) for count in as_list(topk)):
            raise PreflightError('val_evaluator.topk must be positive '
                                 f'integers, got {topk!r}')
        if classes is not None and max(as_list(topk)) > classes:
            raise PreflightError(f'val_evaluator.topk is {topk}, and there '
                                 f'are {classes} classes')
