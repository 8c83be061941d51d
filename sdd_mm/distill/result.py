# Copyright (c) sdd_mm contributors. All rights reserved.
"""The table at the end: what each network costs and how often it is right."""
import itertools
from pathlib import Path
from typing import Dict, List

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, DefaultScope

from ..analysis.comparison import (REPEATS, Measured, measure, milliseconds,
                                   verdict)
from ..analysis.validation import validation_loader
from ..weights import read_checkpoint, select

HEAD = ('network', 'top-1 (95 % interval)', 'parameters', 'MACs',
        'latency, 1 image', 'latency, 32 images', 'weights')


def measure_run(config: Path, checkpoint: Path) -> Measured:
    """The network of a run, or its student, on the validation images."""
    cfg = Config.fromfile(config)
    weights = read_checkpoint(str(checkpoint))['state_dict']
    model = cfg.model
    if 'architecture' in model:
        model, weights = model.architecture, select(weights, 'architecture.')
    model.backbone.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(
            dict(
                model,
                _scope_='mmpretrain',
                data_preprocessor=cfg.data_preprocessor))
    built.load_state_dict(weights)
    return measure(built.to(get_device()), validation_loader(cfg))


def table(found: Dict[str, Measured]) -> List[List[str]]:
    """A row for each network."""
    rows = [list(HEAD)]
    for title, one in found.items():
        low, high = one.interval
        rows.append([
            title, f'{one.accuracy:.1f} % ({low:.1f} to {high:.1f})',
            f'{one.parameters / 1e6:.2f} M', f'{one.macs / 1e6:.0f} M',
            *map(milliseconds, one.latency.values()),
            f'{4 * one.parameters / 2**20:.1f} MiB'
        ])
    return rows


def text(found: Dict[str, Measured], notes: List[str]) -> str:
    """Table, differences and notes in Markdown."""
    rows = table(found)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        '| ' +
        ' | '.join(cell.ljust(width)
                   for cell, width in zip(row, widths)) + ' |' for row in rows
    ]
    lines.insert(1,
                 '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    count = len(next(iter(found.values())).right)
    lines += [
        '', f'Top-1 accuracy on {count} validation images; latency on '
        f'{get_device()}, median of {REPEATS - 2} and '
        f'{REPEATS // 3 - 2}; weights as float32.', ''
    ]
    students = [title for title in found if title != 'teacher']
    lines += [
        f'- {one} against {other}: '
        f'{verdict(found[one].right, found[other].right)}'
        for other, one in itertools.combinations(students, 2)
    ]
    return '\n'.join([*lines, *(f'- {note}' for note in notes), ''])
