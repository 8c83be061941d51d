# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the commands that run a config share, once it is parsed."""
import argparse
import os
import os.path as osp
import sys
import time
from difflib import get_close_matches
from typing import Optional, Union

import sdd_mm  # noqa: F401,E402  isort: skip  (repairs the stack: first)
import torch  # noqa: E402
from arguments import parse_settings  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import RUNNERS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from sdd_mm import safety  # noqa: E402
from sdd_mm.config_file import load_config as read_config_file  # noqa: E402
from sdd_mm.engine.config_keys import check_options  # noqa: E402
from sdd_mm.engine.errors import PreflightError  # noqa: E402
from sdd_mm.engine.preflight import Checked, hand_over  # noqa: E402
from sdd_mm.images import collate_of  # noqa: E402

# those that MMEngine has by itself, and leaves out where a config has None
OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger',
             'param_scheduler', 'checkpoint')


def load_config(args: argparse.Namespace) -> Config:
    """The config file with what every command line may change."""
    safety.guard()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        folder, name = osp.split(args.config)
        found = os.listdir(folder or '.') if osp.isdir(folder or '.') else []
        near = get_close_matches(name, found, n=3)
        hint = f'. Nearest: {", ".join(near)}' if near else ''
        raise PreflightError(f'there is no such config{hint}')
    try:
        cfg = read_config_file(args.config)
    except Exception as error:  # a config file may do anything
        raise PreflightError(f'{type(error).__name__}: {error}') from error
    options = parse_settings(args.cfg_options)
    check_options(cfg, options)
    if options is not None:
        cfg.merge_from_dict(options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def finish_config(cfg: Config, args: argparse.Namespace, fields: tuple,
                  **loader_defaults) -> None:
    """What the machine and the launcher ask of a config."""
    if args.launcher != 'none' and not torch.cuda.is_available():
        cfg.env_cfg.dist_cfg.backend = 'gloo'
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False))
    for field in fields:
        loader = cfg.get(field)
        if loader is None:
            continue
        loader.setdefault('collate_fn', collate_of(cfg))
        loader.setdefault('pin_memory', torch.cuda.is_available())
        if loader.get('num_workers', 0) > 0:
            for key, value in loader_defaults.items():
                loader.setdefault(key, value)
        if args.no_pin_memory:
            loader.pin_memory = False


def build_runner(cfg: Config, checked: Optional[Checked] = None) -> Runner:
    """The runner that the config asks for, with the model that was checked.

    A default hook that is None is left out: MMEngine alone would take that
    for its own hooks only.
    """
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in OWN_HOOKS:
            del hooks[name]
    kind = RUNNERS.get(cfg.get('runner_type', 'Runner'))
    if checked is not None:
        kind = hand_over(kind, checked)
    return kind.from_cfg(cfg)


def refuse(args: argparse.Namespace, error: Union[Exception, str]) -> None:
    """One clear error, and an exit code."""
    sys.exit(f'{time.strftime("%m/%d %H:%M:%S")} - ERROR - {args.config}: '
             f'{error}')
