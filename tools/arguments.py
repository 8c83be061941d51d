# Copyright (c) sdd_mm contributors. All rights reserved.
"""Arguments that several commands share.

Commands parse their arguments before they import torch and OpenMMLab, which
takes seconds: this module imports neither.
"""
import argparse
from typing import List, Optional


def positive(text: str) -> int:
    """A positive integer of the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not positive')
    return value


def setting(text: str) -> str:
    """A KEY=VALUE of the command line."""
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'{text!r} is not KEY=VALUE')
    return text


def add_settings(parser: argparse.ArgumentParser,
                 name: str = '--cfg-options',
                 **kwargs) -> None:
    """An argument of one or more KEY=VALUE, see :func:`parse_settings`."""
    parser.add_argument(
        name, nargs='+', action='extend', type=setting, **kwargs)


def parse_settings(settings: Optional[List[str]]) -> Optional[dict]:
    """KEY=VALUE arguments as a dict, by the rules of MMEngine."""
    if settings is None:
        return None
    from mmengine.config import DictAction
    found = argparse.Namespace()
    DictAction([], 'settings')(None, found, settings)
    return found.settings


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of train.py, test.py and others, as in MMPretrain."""
    parser.add_argument('--work-dir', help='where logs and results go')
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='do not pin the memory of the dataloaders')
    add_settings(
        parser,
        help='settings to override, as key=value with dots for nested keys, '
        'such as train_dataloader.batch_size=32 or model.teacher_ckpt=PATH')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say how to load a run from its checkpoint."""
    parser.add_argument(
        '--teacher-ckpt',
        help='path of the teacher\'s checkpoint, if it was moved')
    parser.add_argument(
        '--loss',
        help='name of the SDD loss whose cells are shown, for a run with '
        'several. Defaults to loss_sdd, or to the first by name')
    add_settings(
        parser,
        help='settings of the config to override, as key=value, such as '
        'val_dataloader.dataset.data_root=PATH')
