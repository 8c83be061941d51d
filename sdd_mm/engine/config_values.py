# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the values of a config may be, where MMEngine would fail late."""
import logging
import math
import re
from typing import Any, Callable, Iterator, Tuple

from mmengine.config import Config
from mmengine.hooks import Hook

from .errors import PreflightError

Rule = Tuple[str, str, Callable[[Any], bool]]


def whole(value, least: int) -> bool:
    """Whether a value is an integer of at least so much."""
    return type(value) is int and value >= least


def number(value) -> bool:
    """Whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


COUNT = 'a positive integer', lambda value: whole(value, 1)
INDEX = 'an integer >= 0', lambda value: whole(value, 0)
FLAG = 'True or False', lambda value: isinstance(value, bool)
POSITIVE = ('a positive number', lambda value: number(value) and value > 0)
MAGNITUDE = ('a number >= 0', lambda value: number(value) and value >= 0)
NUMBER = 'a number', lambda value: value is None or number(value)
INTERVAL = ('a positive integer, or -1 for never',
            lambda value: whole(value, 1) or value == -1)
LOADER = r'(train|val|test)_dataloader\.'
SCHEDULER = r'param_scheduler\.(\d+\.)?'
# a dotted key, what it must be, and whether it is
RULES: Tuple[Rule, ...] = (
    (LOADER + 'batch_size', *COUNT),
    (LOADER + 'num_workers', *INDEX),
    (LOADER + '(drop_last|pin_memory|persistent_workers)', *FLAG),
    (LOADER + r'sampler\.shuffle', *FLAG),
    (LOADER + r'(dataset\.)+pipeline', 'a list of transforms',
     lambda value: isinstance(value, (list, tuple))),
    (r'train_cfg\.(max_epochs|max_iters|val_interval)', *COUNT),
    (r'train_cfg\.val_begin', *INDEX),
    (r'train_cfg\.by_epoch', *FLAG),
    (r'optim_wrapper\.accumulative_counts', *COUNT),
    (r'optim_wrapper\.clip_grad\.(max_norm|clip_value)', *POSITIVE),
    (r'optim_wrapper\.optimizer\.(lr|weight_decay|momentum|eps)', *MAGNITUDE),
    (SCHEDULER + '(begin|end|T_max|total_steps|step_size)', *INDEX),
    (SCHEDULER +
     '(eta_min|eta_max|gamma|factor|start_factor|end_factor|power)', *NUMBER),
    (SCHEDULER + '(by_epoch|convert_to_iter_based)', *FLAG),
    (r'(val|test)_evaluator\.(\d+\.)?topk', 'positive integers',
     lambda value: all(
         whole(one, 1)
         for one in (value if isinstance(value, (list, tuple)) else [value]))),
    (r'default_hooks\.logger\.interval', *COUNT),
    (r'default_hooks\.checkpoint\.(interval|max_keep_ckpts)', *INTERVAL),
    (r'randomness\.seed', 'an integer from 0 to 2**32 - 1, or None',
     lambda value: value is None or whole(value, 0) and value < 2**32),
    (r'randomness\.(deterministic|diff_rank_seed)', *FLAG),
    (r'auto_scale_lr\.base_batch_size', *COUNT),
    (r'model\.student_loss_weight', *MAGNITUDE),
    (r'(model\.((architecture|teacher)\.)?)?data_preprocessor\.std',
     'positive numbers', lambda value: value is None or all(
         number(one) and one > 0 for one in value)),
    (r'(model\.((architecture|teacher)\.)?)?data_preprocessor\.mean',
     '1 or 3 numbers', lambda value: value is None or len(value) in
     (1, 3) and all(map(number, value))),
    (r'model\.teacher_inference', 'a dict',
     lambda value: isinstance(value, dict)),
    (r'(model\.teacher_ckpt|load_from)', 'text or None',
     lambda value: value is None or isinstance(value, str)),
    ('log_level', 'DEBUG, INFO, WARNING, ERROR or CRITICAL',
     lambda value: isinstance(logging.getLevelName(value), int)),
    ('(work_dir|default_scope)', 'text', lambda value: isinstance(value, str)),
)


def check_values(cfg: Config) -> None:
    """Refuse values that cannot be right.

    Args:
        cfg (Config): The config of a run that trains.

    Raises:
        PreflightError: With the key, its value, and what it must be.
    """
    _check_shapes(cfg)
    for key, value in items(cfg):
        for pattern, what, right in RULES:
            if re.fullmatch(pattern, key) and not right(value):
                raise PreflightError(f'{key} must be {what}, got {value!r}')
    together = ('val_dataloader', 'val_evaluator', 'val_cfg')
    absent = [key for key in together if cfg.get(key) is None]
    if absent and len(absent) < len(together):
        raise PreflightError(
            f'{" and ".join(absent)} must be set to validate: '
            f'set all of {", ".join(together)}, or none')


def _check_shapes(cfg: Config) -> None:
    """What must be a dict, or some of them."""
    for key in ('model', 'train_dataloader', 'train_dataloader.dataset',
                'train_cfg', 'optim_wrapper'):
        _want(cfg, key, 'a dict', _is_dict)
    _want(cfg, 'train_dataloader.dataset.type', 'the name of a data set',
          lambda value: isinstance(value, (str, type)))
    if 'constructor' not in cfg.optim_wrapper:
        _want(cfg, 'optim_wrapper.optimizer', 'a dict', _is_dict)
    for key in ('val_dataloader', 'default_hooks', 'randomness',
                'optim_wrapper.clip_grad'):
        _want(cfg, key, 'a dict',
              lambda value: value is None or _is_dict(value))
    if 'env_cfg' in cfg:
        _want(cfg, 'env_cfg', 'a dict', _is_dict)
    for name in cfg.get('default_hooks') or ():
        _want(cfg, f'default_hooks.{name}', 'a dict, or None to leave it out',
              lambda value: value is None or _is_hook(value))
    _want(
        cfg, 'custom_hooks',
        'a list of dicts', lambda value: value is None or isinstance(
            value, (list, tuple)) and all(map(_is_hook, value)))
    _want(
        cfg, 'param_scheduler', 'a dict or a list of dicts',
        lambda value: value is None or _is_dict(value) or isinstance(
            value, (list, tuple)) and all(map(_is_dict, value)))


def _want(cfg: Config, key: str, what: str, right: Callable) -> None:
    value = cfg
    for part in key.split('.'):
        value = value.get(part)
        if value is None:
            break
    if not right(value):
        raise PreflightError(f'{key} must be {what}, got {value!r}')


def _is_dict(value) -> bool:
    return isinstance(value, dict)


def _is_hook(value) -> bool:
    return isinstance(value, (dict, Hook))


def items(value, prefix: str = '') -> Iterator[Tuple[str, Any]]:
    """Dotted keys of a config with their values."""
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    for key, inner in value.items():
        yield f'{prefix}{key}', inner
        if isinstance(inner, (dict, list, tuple)):
            yield from items(inner, f'{prefix}{key}.')
