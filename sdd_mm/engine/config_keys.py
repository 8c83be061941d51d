# Copyright (c) sdd_mm contributors. All rights reserved.
"""Keys of a config that nothing would read."""
import inspect
from difflib import get_close_matches
from typing import Iterator, Optional

from mmengine.config import Config
from mmengine.registry import (DATA_SAMPLERS, HOOKS, METRICS, OPTIM_WRAPPERS,
                               OPTIMIZERS, PARAM_SCHEDULERS)
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from .errors import PreflightError

# top-level keys that are read beside Runner's own arguments
OTHER_KEYS = ('compile', 'find_unused_parameters', 'model_wrapper_cfg',
              'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline')
RUNNER_KEYS = (*inspect.signature(Runner).parameters, *OTHER_KEYS)
# that Runner.build_dataloader() reads beside DataLoader's own
LOADER_KEYS = ('num_batch_per_epoch', )


def check_options(cfg: Config, options: Optional[dict]) -> None:
    """Refuse ``--cfg-options`` that nothing would read.

    MMEngine merges any key. But only the runner's own arguments are read; the
    other names of a config file have been used when it was read.

    Args:
        cfg (Config): The config.
        options (dict, optional): What ``--cfg-options`` parsed.

    Raises:
        PreflightError: If nothing reads a key.
    """
    for option in options or {}:
        first, *_, last = [*option.split('.'), option.split('.')[-1]]
        if first in RUNNER_KEYS:
            continue
        read = [
            name for name in dotted(cfg)
            if name.split('.')[0] in RUNNER_KEYS and name.endswith(f'.{last}')
        ]
        hint = f' Is it one of {", ".join(read[:4])}?' if read else ''
        near = get_close_matches(first, RUNNER_KEYS, n=1)
        if near and not read:
            hint = f' Did you mean {near[0]!r}?'
        raise PreflightError(
            f'--cfg-options {option}: nothing reads the key {first!r} after '
            f'the config file.{hint}')


def dotted(value, prefix: str = '') -> Iterator[str]:
    """Dotted names of everything in a config."""
    if isinstance(value, (dict, Config)):
        for key, inner in value.items():
            yield f'{prefix}{key}'
            yield from dotted(inner, f'{prefix}{key}.')


def check_keys(cfg: Config) -> None:
    """Refuse unknown types and arguments of what the runner builds late.

    Args:
        cfg (Config): The config of a run that trains.

    Raises:
        PreflightError: With the key, and the nearest name there is.
    """
    train_cfg = cfg.get('train_cfg') or {}
    if ('type' in train_cfg) == ('by_epoch' in train_cfg):
        raise PreflightError(
            'train_cfg must have by_epoch, True with max_epochs or False with '
            f'max_iters, or else a type; it has {sorted(train_cfg)}')
    if 'type' not in train_cfg:
        loop = (
            EpochBasedTrainLoop
            if train_cfg['by_epoch'] else IterBasedTrainLoop)
        _check_arguments('train_cfg', loop, train_cfg, ('by_epoch', ))
    for name, hook in (cfg.get('default_hooks') or {}).items():
        _check_built(f'default_hooks.{name}', HOOKS, hook)
    for field, registry in (('custom_hooks', HOOKS), ('param_scheduler',
                                                      PARAM_SCHEDULERS),
                            ('val_evaluator', METRICS)):
        for config in as_list(cfg.get(field)):
            _check_built(
                field, registry, config,
                ('convert_to_iter_based', ) if field == 'param_scheduler' else
                ())
    for key in ('train_dataloader', 'val_dataloader'):
        loader = cfg.get(key) or {}
        _check_arguments(key, DataLoader, loader, LOADER_KEYS)
        _check_built(f'{key}.sampler', DATA_SAMPLERS, loader.get('sampler'))
    wrapper = cfg.optim_wrapper
    if 'constructor' not in wrapper:
        _check_built('optim_wrapper', OPTIM_WRAPPERS,
                     dict(dict(type='OptimWrapper'), **wrapper),
                     ('paramwise_cfg', ))
        _check_built('optim_wrapper.optimizer', OPTIMIZERS, wrapper.optimizer)
    clip = dict(wrapper.get('clip_grad') or {})
    if clip:
        by_value = clip.pop('type', 'norm') == 'value'
        _check_arguments('optim_wrapper.clip_grad',
                         clip_grad_value_ if by_value else clip_grad_norm_,
                         clip, ())


def as_list(value) -> list:
    if value is None or isinstance(value, dict):
        return [value]
    return list(value)


def _check_built(field: str, registry, config, extra: tuple = ()) -> None:
    if not isinstance(config, dict) or not isinstance(config.get('type'), str):
        return
    found = find_type(registry, config['type'])
    if found is None:
        known = {
            name
            for one in (registry, *registry.children.values())
            for name in one.module_dict
        }
        near = get_close_matches(config['type'], known, n=1)
        hint = f'. Did you mean {near[0]!r}?' if near else ''
        raise PreflightError(f'{field}: there is no {config["type"]!r} in the '
                             f'registry {registry.name!r}{hint}')
    _check_arguments(field, found, config, ('type', '_scope_', *extra))


def find_type(registry, name):
    """What a config's type stands for in the scope of the config."""
    if not isinstance(name, str):
        return name
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(name)


def _check_arguments(field: str, function, config: dict, extra: tuple) -> None:
    parameters = _parameters(function)
    if parameters is None:
        return
    unknown = [
        key for key in config
        if key not in parameters and key not in extra and key != 'priority'
    ]
    if unknown:
        near = get_close_matches(unknown[0], parameters, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        raise PreflightError(f'{field}: {function.__name__} takes no '
                             f'{unknown[0]!r}.{hint}')


def _parameters(function) -> Optional[set]:
    """Names that a call takes, None if it takes any."""
    inits = [
        base.__init__ for base in inspect.getmro(function)
        if base is not object and '__init__' in vars(base)
    ] if inspect.isclass(function) else [function]
    names = set()
    for init in inits:  # as long as each hands the rest on to the next
        parameters = inspect.signature(init).parameters
        names.update(parameters)
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD
               for parameter in parameters.values()):
            return names
    return None
