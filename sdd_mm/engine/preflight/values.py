# Copyright (c) sdd_mm contributors. All rights reserved.
"""Values that build without an error, and are wrong all the same."""
import math
import re
from typing import Any, Callable, Iterator, Tuple

from mmengine.config import Config

from ..errors import PreflightError


def whole(value, least: int) -> bool:
    """Whether a value is an integer of at least so much."""
    return type(value) is int and value >= least


def number(value) -> bool:
    """Whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


LOADER = r'(train|val|test)_dataloader\.'
PREPROCESSOR = (r'(model\.((architecture|teacher)\.)?)?data_preprocessor\.'
                r'((student|teacher)\.)?')
# what runs silently wrong, fails hours later, or says no key when it fails:
# a dotted key, what its value must be, and whether it is
RULES: Tuple[Tuple[str, str, Callable[[Any], bool]], ...] = (
    (r'model|train_dataloader|(train|val)_dataloader\.dataset|train_cfg|'
     r'train_dataloader\.sampler|optim_wrapper|optim_wrapper\.optimizer|'
     r'env_cfg|model\.teacher_inference', 'a dict',
     lambda value: isinstance(value, dict)),
    (r'val_dataloader|default_hooks|randomness|optim_wrapper\.clip_grad',
     'a dict or None', lambda value: isinstance(value, (dict, type(None)))),
    (r'custom_hooks', 'a list of dicts',
     lambda value: isinstance(value, (list, tuple, type(None)))),
    (LOADER + r'(dataset\.)+type', 'the name of a data set',
     lambda value: isinstance(value, (str, type))),
    (LOADER + r'(dataset\.)+pipeline', 'a list of transforms',
     lambda value: isinstance(value, (list, tuple))),
    (r'work_dir|default_scope', 'text', lambda value: isinstance(value, str)),
    (r'model\.teacher_ckpt', 'text, a list of texts, or None',
     lambda value: isinstance(value, (str, type(None))) or isinstance(
         value, list) and all(isinstance(one, str) for one in value)),
    (r'load_from', 'text or None',
     lambda value: isinstance(value, (str, type(None)))),
    (r'.*\.(by_epoch|convert_to_iter_based|drop_last|pin_memory|'
     r'persistent_workers|shuffle|deterministic|diff_rank_seed)',
     'True or False', lambda value: isinstance(value, bool)),
    (r'train_cfg\.(max_epochs|max_iters|val_interval)|'
     r'optim_wrapper\.accumulative_counts|auto_scale_lr\.base_batch_size|'
     r'(train|val)_dataloader\.batch_size', 'a positive integer',
     lambda value: whole(value, 1)),
    (r'train_cfg\.val_begin', 'an integer >= 0',
     lambda value: whole(value, 0)),
    (r'default_hooks\.checkpoint\.(interval|max_keep_ckpts)',
     'a positive integer, or -1 for never',
     lambda value: whole(value, 1) or value == -1),
    (r'optim_wrapper\.clip_grad\.(max_norm|clip_value)', 'a positive number',
     lambda value: number(value) and value > 0),
    (r'optim_wrapper\.optimizer\.(lr|weight_decay|momentum|eps)|'
     r'model\.student_loss_weight', 'a number >= 0',
     lambda value: number(value) and value >= 0),
    (r'param_scheduler\.(\d+\.)?'
     r'(eta_min|eta_max|gamma|factor|start_factor|end_factor|power)',
     'a number or None', lambda value: value is None or number(value)),
    (r'randomness\.seed', 'an integer from 0 to 2**32 - 1, or None',
     lambda value: value is None or whole(value, 0) and value < 2**32),
    (PREPROCESSOR + 'std', 'a list of positive numbers',
     lambda value: value is None or isinstance(value, (list, tuple)) and all(
         number(one) and one > 0 for one in value)),
    (PREPROCESSOR + 'mean', 'a list of numbers', lambda value: value is None or
     isinstance(value, (list, tuple)) and all(map(number, value))),
)
NEEDED = ('model', 'train_dataloader', 'train_dataloader.dataset',
          'train_dataloader.dataset.type', 'train_cfg', 'optim_wrapper')
TOGETHER = ('val_dataloader', 'val_evaluator', 'val_cfg')


def check_values(cfg: Config) -> None:
    """Refuse values that cannot be right.

    Args:
        cfg (Config): The config of a run that trains.

    Raises:
        PreflightError: With the key, its value, and what it must be.
    """
    entries = dict(items(cfg))
    needed = [*NEEDED]
    if 'optim_wrapper.constructor' not in entries:
        needed.append('optim_wrapper.optimizer')
    loader = 'train_dataloader'
    if not entries.keys() & {f'{loader}.batch_sampler', f'{loader}.shuffle'}:
        needed.append(f'{loader}.sampler')
    entries.update((key, None) for key in needed if key not in entries)
    # what is missing comes first, where it is
    for key in sorted(entries, key=lambda key: key.count('.')):
        for pattern, what, right in RULES:
            if re.fullmatch(pattern, key) and not right(entries[key]):
                raise PreflightError(
                    f'{key} must be {what}, got {entries[key]!r}')
    if ('type' in cfg.train_cfg) == ('by_epoch' in cfg.train_cfg):
        raise PreflightError(
            'train_cfg must have by_epoch, True with max_epochs or False with '
            f'max_iters, or else a type; it has {sorted(cfg.train_cfg)}')
    absent = [key for key in TOGETHER if cfg.get(key) is None]
    if absent and len(absent) < len(TOGETHER):
        raise PreflightError(
            f'{" and ".join(absent)} must be set to validate: '
            f'set all of {", ".join(TOGETHER)}, or none')


def items(value: Any, prefix: str = '') -> Iterator[Tuple[str, Any]]:
    """Dotted keys of a config, or of a part of one, with their values."""
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    for key, inner in value.items():
        yield f'{prefix}{key}', inner
        if isinstance(inner, (dict, list, tuple)):
            yield from items(inner, f'{prefix}{key}.')
