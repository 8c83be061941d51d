# Copyright (c) sdd_mm contributors. All rights reserved.
"""Metrics, and the hooks that follow one of them, tried before the run."""
import contextlib
import copy
import io
import logging
from numbers import Number
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import nn

from ...runtime.utils import num_classes
from ..config_keys import as_list
from ..errors import PreflightError
from .values import whole


def check_topk(cfg: Config, model: nn.Module, key: str) -> None:
    """Metrics are built with any topk, and fail when they are computed.

    Args:
        cfg (Config): The config of a run.
        model (nn.Module): Its model.
        key (str): 'val_evaluator' or 'test_evaluator'.
    """
    classes = num_classes(model)
    evaluator = cfg.get(key)
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        key, evaluator = f'{key}.metrics', evaluator['metrics']
    for metric in as_list(evaluator):
        topk = metric.get('topk') if isinstance(metric, dict) else None
        if topk is None:
            continue
        if not all(whole(count, 1) for count in as_list(topk)):
            raise PreflightError(f'{key}.topk must be positive integers, got '
                                 f'{topk!r}')
        if classes is not None and max(as_list(topk)) > classes:
            raise PreflightError(
                f'{key}.topk is {topk}, and there are {classes} classes: set '
                f'it to no more than that, such as ({classes}, )')


def check_followed(cfg: Config, runner: Runner, model: nn.Module) -> None:
    """Whoever follows a metric follows a number that is measured.

    Args:
        cfg (Config): The config of a run.
        runner (Runner): With its hooks and ``_val_evaluator``.
        model (nn.Module): The model.

    Raises:
        PreflightError: If ``save_best``, ``EarlyStoppingHook`` or a scheduler
            follows what no evaluator yields, or what is no number.
    """
    followed = list(_followed(cfg, runner))
    found = _try(runner._val_evaluator, model) if followed else None
    if not found:
        return
    for key, name in followed:
        first = next(iter(found))
        automatic = name == 'auto'
        name = first if automatic else name
        what = f"{key}='auto' follows {name!r}" if automatic else (
            f'{key} is {name!r}')
        numbers = [one for one, value in found.items() if _number(value)]
        advice = f'set it to one of {numbers}' if numbers else (
            "add dict(type='Accuracy') to val_evaluator")
        if name not in found:
            raise PreflightError(f'{what}, which val_evaluator does not '
                                 f'measure: {advice}')
        if not _number(found[name]):
            raise PreflightError(f'{what}, which is no number but a '
                                 f'{type(found[name]).__name__}: {advice}')
        if automatic:
            _check_rule(key, name, runner)


def _followed(cfg: Config, runner: Runner) -> Iterator[Tuple[str, str]]:
    """Config keys of what follows a metric, and the metric's name."""
    if cfg.get('val_evaluator') is None:
        return
    for hook in runner._hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            for name in hook.key_indicators:
                yield 'default_hooks.checkpoint.save_best', name
        elif isinstance(hook, EarlyStoppingHook):
            yield 'EarlyStoppingHook.monitor', hook.monitor
    for scheduler in as_list(cfg.get('param_scheduler') or []):
        if isinstance(scheduler, dict) and 'ReduceOnPlateau' in str(
                scheduler.get('type')):
            yield 'param_scheduler.monitor', scheduler.get('monitor', 'loss')


def _check_rule(key: str, name: str, runner: Runner) -> None:
    """Whether more or less of the first metric is better."""
    for hook in runner._hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            try:
                copy.deepcopy(hook)._init_rule(hook.rules, [name])
            except ValueError as error:
                raise PreflightError(
                    f"{key}='auto' follows {name!r}, of which MMEngine does "
                    'not know whether more or less is better: set '
                    "default_hooks.checkpoint.rule to 'greater' or 'less'"
                ) from error


def _try(evaluator: Optional[Evaluator],
         model: nn.Module) -> Optional[Dict[str, Any]]:
    """What an evaluator measures of predictions that are all right.

    None if it cannot be tried so: a metric may need anything.
    """
    classes = num_classes(model)
    if evaluator is None or not classes:
        return None
    samples = []
    for label in range(max(2, classes)):
        label %= classes
        score = torch.zeros(classes)
        score[label] = 1.
        samples.append(DataSample().set_gt_label(label).set_gt_score(
            score).set_pred_label(label).set_pred_score(score))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        evaluator = copy.deepcopy(evaluator)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.process(data_samples=samples, data_batch=None)
            return evaluator.evaluate(len(samples))
    except Exception:
        return None
    finally:
        logging.disable(level)


def _number(value: Any) -> bool:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.ndim == 0
    return isinstance(value, Number)
