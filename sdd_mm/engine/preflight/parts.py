# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every part of a config, built as MMEngine's runner builds it."""
import copy
import inspect
import logging
from typing import Any, Callable, Dict, Optional

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import MODELS, OPTIMIZERS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from ..config_keys import as_list
from ..errors import PreflightError
from .building import building, look_up
from .evaluators import check_monitored, check_topk, monitors, plateaus
from .hooks import check_hooks


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
        hooks = _build_hooks(cfg, runner)
    finally:
        for kind in (Visualizer, *Visualizer.__subclasses__()):
            kind._instance_dict.pop('check', None)
    check_hooks(hooks, model)
    runner._val_evaluator = build_evaluator(cfg, 'val_evaluator', runner)
    build_evaluator(cfg, 'test_evaluator', runner)
    check_monitored(runner._val_evaluator, model, monitors(hooks))
    return runner


def build_evaluator(cfg: Config, field: str,
                    runner: Runner) -> Optional[Evaluator]:
    """The evaluator of a config, whose top-k fits the runner's model."""
    evaluator = _build(cfg, field, runner.build_evaluator)
    check_topk(field, cfg.get(field), runner.model)
    return evaluator


def build_loops(cfg: Config, runner: Runner,
                loaders: Dict[str, DataLoader]) -> None:
    """Build what also needs data, for a runner of :func:`build_parts`."""
    runner._train_dataloader = loaders['train_dataloader']
    runner._val_dataloader = loaders.get('val_dataloader')
    runner._train_loop = _build(cfg, 'train_cfg', runner.build_train_loop)
    loop, end = runner._train_loop, 'max_iters'
    if isinstance(loop, EpochBasedTrainLoop):
        end = 'max_epochs'
    if _build(cfg, 'val_cfg', runner.build_val_loop) is not None and getattr(
            loop, 'val_begin', 0) > getattr(loop, end):
        raise PreflightError(
            f'train_cfg.val_begin is {loop.val_begin}, after the last of '
            f'{getattr(loop, end)} ({end}): nothing would be validated. Set '
            f'it to {getattr(loop, end)} or less')
    schedulers = _build(
        cfg, 'param_scheduler', lambda config: runner.build_param_scheduler(
            config if isinstance(config, dict) else as_list(config)))
    check_monitored(runner._val_evaluator, runner.model, plateaus(schedulers))


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


def _build_hooks(cfg: Config, runner: Runner) -> Dict[str, Hook]:
    hooks = {
        f'default_hooks.{name}': hook
        for name, hook in (cfg.get('default_hooks') or {}).items()
    }
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        hooks[f'custom_hooks.{index}'] = hook
    built = {}
    for key, hook in hooks.items():
        if hook is None:  # left out
            continue
        before = list(runner._hooks)
        with building(key, hook):
            runner.register_hook(copy.deepcopy(hook))
        built[key] = next(one for one in runner._hooks if one not in before)
    return built
