# Copyright (c) sdd_mm contributors. All rights reserved.
"""Metrics: built, tried on made-up predictions, and asked for by name."""
import logging
import warnings
from copy import copy, deepcopy
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmpretrain.structures import DataSample
from torch import nn

from ...runtime.utils import num_classes
from ..config_keys import as_list
from ..errors import PreflightError
from .values import items, whole

# a matrix of more classes would take gigabytes
MOST_CLASSES = 5000


def check_topk(field: str, config: Any, model: nn.Module) -> None:
    """Metrics are built with any topk, and fail after the first epoch.

    Args:
        field (str): The config's key, ``val_evaluator`` or
            ``test_evaluator``.
        config (dict | list[dict] | None): The evaluator's config.
        model (nn.Module): The model.

    Raises:
        PreflightError: If a ``topk`` is no count, or more than the classes.
    """
    entries = dict(items({field: config}))
    classes = num_classes(model)
    for key, topk in entries.items():
        owner, _, name = key.rpartition('.')
        if name != 'topk' or topk is None:
            continue
        if not as_list(topk) or not all(
                whole(count, 1) for count in as_list(topk)):
            raise PreflightError(
                f'{key} must be positive integers, got {topk!r}')
        # retrieval ranks images, not classes
        if 'Retrieval' in str(entries[owner].get('type')):
            continue
        if classes is not None and max(as_list(topk)) > classes:
            raise PreflightError(
                f'{key} is {topk}, and there are {classes} classes')


def tried(evaluator: Evaluator, model: nn.Module) -> Optional[Dict[str, Any]]:
    """What an evaluator yields, by trying it on random predictions.

    Args:
        evaluator (Evaluator): A built evaluator. It is copied.
        model (nn.Module): The model, with the number of its classes.

    Returns:
        dict[str, Any] | None: The metrics by their full names, or None if
        these metrics need something else than a classifier's predictions.
    """
    classes = num_classes(model)
    if not classes or classes > MOST_CLASSES:
        return None
    samples = []
    for label in range(max(2, min(classes, 64))):
        label %= classes
        scores = torch.rand(classes).softmax(0)
        samples.append(DataSample().set_pred_score(scores).set_pred_label(
            scores.argmax()).set_gt_label(label))
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            evaluator = deepcopy(evaluator)
            evaluator.process(samples, dict(data_samples=samples))
            return evaluator.evaluate(len(samples))
    except Exception:  # whatever a metric needs that is not here
        return None
    finally:
        logging.disable(level)


class Monitored(NamedTuple):
    """A metric that something compares.

    Args:
        key (str): The dotted config key that names it.
        metric (str): Its name, or 'auto' for the first.
        hook (CheckpointHook, optional): What has to know whether more of it
            is better. Defaults to None.
    """
    key: str
    metric: str
    hook: Optional[CheckpointHook] = None


def monitors(hooks: Dict[str, Hook]) -> List[Monitored]:
    """What built hooks, by their config keys, compare."""
    found = []
    for key, hook in hooks.items():
        if isinstance(hook, CheckpointHook):
            found += [
                Monitored(f'{key}.save_best', name, hook)
                for name in (hook.key_indicators if hook.save_best else ())
            ]
        elif isinstance(getattr(hook, 'monitor', None), str):
            found.append(Monitored(f'{key}.monitor', hook.monitor))
    return found


def plateaus(schedulers: Any) -> List[Monitored]:
    """What built schedules of one or several optimizers compare."""
    lists = schedulers.values() if isinstance(schedulers,
                                              dict) else [schedulers or ()]
    return [
        Monitored('param_scheduler.monitor', one.monitor) for each in lists
        for one in each if getattr(one, 'need_val_args', False)
    ]


def check_monitored(evaluator: Optional[Evaluator], model: nn.Module,
                    monitored: List[Monitored]) -> None:
    """What a hook or a schedule compares is yielded, and is a number.

    Args:
        evaluator (Evaluator, optional): The one that validates.
        model (nn.Module): The model.
        monitored (list[Monitored]): What is compared.

    Raises:
        PreflightError: If a metric is absent, cannot be compared, or nobody
            knows whether more of it is better.
    """
    if evaluator is None or not monitored:
        return
    metrics = tried(evaluator, model)
    if not metrics:
        return
    numbers = [name for name, value in metrics.items() if _is_number(value)]
    remedy = f'choose one of {", ".join(numbers)}' if numbers else (
        "add dict(type='Accuracy', topk=(1, )) to val_evaluator and choose "
        'accuracy/top1')
    for key, name, hook in monitored:
        asked, first = f'{key}={name!r}', next(iter(metrics))
        if name == 'auto':
            asked += f' takes the first metric of val_evaluator, {first!r}: it'
            name = first
        if name not in metrics:
            raise PreflightError(
                f'{asked} is not a metric that val_evaluator yields: {remedy}')
        if not _is_number(metrics[name]):
            raise PreflightError(f'{asked} is not a number but a '
                                 f'{_kind(metrics[name])}: {remedy}')
        try:
            if hook is not None and 'auto' in hook.key_indicators:
                copy(hook)._init_rule(hook.rules, [name])
        except ValueError as error:
            raise PreflightError(
                f'{asked} may be better if it is greater or less: set '
                f"{key.rpartition('.')[0]}.rule to 'greater' or 'less'"
            ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, 'ndim', None) == 0


def _kind(value: Any) -> str:
    shape = getattr(value, 'shape', None)
    if shape is None:
        return type(value).__name__
    return f'{type(value).__name__} of shape {tuple(shape)}'
