# Copyright (c) sdd_mm contributors. All rights reserved.
"""Writes what was measured into metafiles and pages."""
import json
from functools import partial
from pathlib import Path
from typing import List

from . import metafiles
from .differences import differences
from .markdown import PageError, fill, spread, table
from .speed import page as speed

OPTIONAL = ('paper', 'original', "authors' log", 'difference', 'diverged')
LEGEND = (
    'Top-1 (%) on the images that the config validates on (the test set, '
    'unless stated otherwise); mean +- standard deviation over the seeds. The '
    'best epoch is chosen on those same images, as in published numbers.')


def update(root: Path, check: bool = False) -> List[str]:
    """Write the metafiles and the tables of all pages, or only compare.

    Raises:
        PageError: If a table cannot be made.
    """
    found = metafiles.Metafiles(root)
    writers = {
        kind: partial(_rows, make, found)
        for kind, make in metafiles.KINDS.items()
    }
    writers['speed'] = speed.tables
    texts = dict(found.texts)
    for path in sorted((root / 'benchmarks').glob('*.json')):
        texts[path.with_suffix('.md')] = suite_page(
            json.loads(path.read_text()))
    for pattern in ('configs/*/README.md', 'docs/en/*.md',
                    'benchmarks/README.md'):
        for page in sorted(root.glob(pattern)):
            texts[page] = fill(page, writers)
    return write(texts, root, check)


def update_speed(folder: Path, check: bool = False) -> List[str]:
    """The same for the README.md of a folder with speed results."""
    page = folder / 'README.md'
    return write({page: fill(page, dict(speed=speed.tables))}, folder, check)


def write(texts: dict, root: Path, check: bool) -> List[str]:
    """Write the files that differ, unless ``check``; their names."""
    stale = [
        path for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    for path in stale:
        if not check:
            path.write_text(texts[path], encoding='utf-8')
    return [str(path.relative_to(root)) for path in stale]


def _rows(make, found, page: Path, subject: str) -> List[str]:
    lines = make(found, page, subject)
    if not lines[2]:
        raise PageError(f'{page}: the table {make.__name__} {subject} has no '
                        'rows: no metafile has such a model')
    return lines


def suite_page(found: dict) -> str:
    """The table and the notes of a suite's result, in Markdown."""
    cells = [[
        '', 'paper', 'original', "authors' log", 'last epoch', 'difference',
        'mean of last 10', 'best epoch', 'seeds', 'diverged'
    ]]
    reference = found.get('reference')
    against = differences(found['rows'], reference) if reference else {}
    for row in found['rows']:
        runs = row['runs']
        cells.append([
            row['title'], *('' if row.get(key) is None else f'{row[key]:.2f}'
                            for key in ('paper', 'original')),
            ', '.join(f'{log:.2f}' for log in row['log']),
            spread([run['last'] for run in runs]),
            str(against.get(row['title'],
                            '')), *(spread([run[key] for run in runs])
                                    for key in ('mean_of_last_10', 'best')),
            ', '.join(str(run['seed'])
                      for run in runs), ', '.join(map(str, row['diverged']))
        ])
    lines = table(cells, OPTIONAL)
    text = LEGEND
    if reference is not None:
        text += (f' Difference: points of the last epoch against '
                 f'"{reference}", mean over the seeds that both have and 95 % '
                 'interval.')
    return '\n'.join([*lines, '', text, '', *found['notes'], ''])
