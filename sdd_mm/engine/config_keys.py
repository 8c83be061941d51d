# Copyright (c) sdd_mm contributors. All rights reserved.
"""Keys of a config that nothing would read."""
import inspect
from difflib import get_close_matches
from typing import Iterator, Optional

from mmengine.config import Config
from mmengine.runner import Runner

from .errors import PreflightError

# top-level keys that are read beside Runner's own arguments
OTHER_KEYS = ('compile', 'find_unused_parameters', 'model_wrapper_cfg',
              'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline')
RUNNER_KEYS = (*inspect.signature(Runner).parameters, *OTHER_KEYS)


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


def as_list(value) -> list:
    """A value, or several, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
