# Copyright (c) sdd_mm contributors. All rights reserved.
"""Train a config. See docs/en/get_started.md."""
import argparse
import errno
import logging
import os
from typing import TYPE_CHECKING, Optional

from arguments import add_common_arguments, positive

if TYPE_CHECKING:
    from mmengine.config import Config

RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint or, without a path, from the newest '
        'whole one in the work dir')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train in mixed precision: float16, or the '
        'optim_wrapper.dtype of --cfg-options')
    parser.add_argument(
        '--no-validate', action='store_true', help='do not validate')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the actual batch size over '
        'auto_scale_lr.base_batch_size')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start the dataloader workers anew every epoch')
    parser.add_argument(
        '--smoke',
        type=positive,
        metavar='N',
        help='run N iterations on generated images, to try the config and '
        'the machine: no data, no validation, no checkpoint')
    return parser.parse_args()


def configure(args: argparse.Namespace) -> 'Config':
    from common import PreflightError, finish_config, load_config
    from torch import cuda

    from sdd_mm.engine.preflight.values import check_values
    cfg = load_config(args)
    check_values(cfg)
    if args.amp:
        if not cuda.is_available():
            raise PreflightError('--amp needs a GPU: MMEngine\'s '
                                 'AmpOptimWrapper does not run without one')
        cfg.optim_wrapper.type = 'DeferredAmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume is not None:
        found = find_newest(cfg) if args.resume == 'auto' else args.resume
        cfg.resume = found is not None
        if found is not None:
            cfg.load_from = found
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise PreflightError('--auto-scale-lr needs auto_scale_lr=dict('
                                 'base_batch_size=...) in the config')
        cfg.auto_scale_lr.enable = True
    finish_config(
        cfg,
        args, ('train_dataloader', 'val_dataloader', 'test_dataloader'),
        persistent_workers=True)
    if args.no_persistent_workers:
        for field in ('train_dataloader', 'val_dataloader'):
            if cfg.get(field) is not None:
                cfg[field].persistent_workers = False
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def find_newest(cfg: 'Config') -> Optional[str]:
    """The checkpoint that ``--resume`` resumes from."""
    from common import PreflightError
    from mmengine.logging import print_log

    from sdd_mm.runtime.checkpoints import newest_checkpoint
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    for key in ('filename_tmpl', 'out_dir'):
        if hook.get(key) is not None:
            raise PreflightError(
                f'default_hooks.checkpoint.{key} names checkpoints that '
                '--resume does not look for: name one, as --resume PATH')
    found = newest_checkpoint(cfg.work_dir)
    if found is None:
        print_log(
            f'--resume: no checkpoint in {cfg.work_dir}; starting from '
            'scratch',
            level=logging.WARNING)
    return found


def _writes(launcher: str) -> bool:
    """Whether this is the process that writes, before they know each other."""
    return launcher == 'none' or os.environ.get(RANKS[launcher], '0') == '0'


def main() -> None:
    args = parse_args()
    from common import build_runner, refuse

    from sdd_mm.engine.preflight import check_training
    from sdd_mm.engine.smoke import to_smoke
    from sdd_mm.errors import SDDError
    from sdd_mm.runtime.checkpoints import newest_checkpoint
    from sdd_mm.runtime.work_dir import lock_work_dir
    try:
        cfg = configure(args)
        note = to_smoke(cfg, args.smoke) if args.smoke else None
        checked = check_training(cfg)
        lock = lock_work_dir(cfg.work_dir) if _writes(args.launcher) else None
    except SDDError as error:
        refuse(args, error)
    runner = build_runner(cfg, checked)
    if note:
        runner.logger.warning(note)
    try:
        runner.train()
    except SDDError as error:
        refuse(args, f'{type(error).__name__}: {error}')
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = newest_checkpoint(cfg.work_dir) or 'no checkpoint yet'
        refuse(
            args, f'a disk is full ({error}). work_dir {cfg.work_dir} has '
            f'{kept}: make room, and go on with --resume')
    if note:
        runner.logger.warning(f'This was no training. {note}')
    if lock is not None:
        lock.close()


if __name__ == '__main__':
    main()
