# Copyright (c) sdd_mm contributors. All rights reserved.
"""Many runs, and the table of what they measured."""
import json
import os
import statistics
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence

from runs import Run

Rows = Dict[str, List[Run]]


def train_all(rows: Rows) -> Iterator[Run]:
    """Train what is not done of all rows, seed by seed.

    Args:
        rows (dict[str, list[Run]]): The runs of every row, by its title.

    Yields:
        Run: Every run as it is done. Equal runs of two rows come once.
    """
    todo = {}
    for runs in zip(*rows.values(), strict=True):
        for title, run in zip(rows, runs):
            todo.setdefault(run.directory, (f'{title}, seed {run.seed}', run))
    for number, (title, run) in enumerate(todo.values(), 1):
        print(
            f'Run {number} of {len(todo)}: {title}: {run.epochs_done()} of '
            f'{run.max_epochs} epochs are done',
            flush=True)
        run.train(title)
        yield run


def write(path: Path, rows: Rows, published: Optional[Sequence[float]],
          notes: List[str]) -> str:
    """Write what was measured as JSON and, beside it, as a table.

    Args:
        path (Path): The JSON file.
        rows (dict[str, list[Run]]): The runs of every row, by its title. Runs
            that are not done are left out.
        published (Sequence[float], optional): Published accuracies of the
            rows.
        notes (list[str]): What to know about the numbers.

    Returns:
        str: The table, in Markdown.
    """
    results = [
        dict(title=title, paper=paper, runs=_measured(runs))
        for (title, runs), paper in zip(
            rows.items(), published or [None] * len(rows), strict=True)
    ]
    text = '\n'.join([_table(results), '', _LEGEND, *notes, ''])
    _replace(path, json.dumps(dict(rows=results, notes=notes), indent=1))
    _replace(path.with_suffix('.md'), text)
    return text


def _measured(runs: List[Run]) -> List[dict]:
    found = []
    for run in runs:
        if run.done():
            accuracy = run.accuracy()
            found.append(
                dict(
                    seed=run.seed,
                    directory=str(run.directory),
                    last=accuracy[run.max_epochs],
                    best=max(accuracy.values()),
                    accuracy=accuracy))
    return found


_LEGEND = (
    'Top-1 (%), mean +- standard deviation over the seeds. The paper\'s '
    'numbers are of the best epoch on the test set.')


def _table(results: List[dict]) -> str:
    lines = [
        '| | paper | last epoch | best epoch | seeds |',
        '|---|---|---|---|---|'
    ]
    for row in results:
        cells = [
            row['title'], '' if row['paper'] is None else f'{row["paper"]:.2f}'
        ]
        for key in ('last', 'best'):
            cells.append(_spread([run[key] for run in row['runs']]))
        cells.append(', '.join(str(run['seed']) for run in row['runs']))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _spread(values: List[float]) -> str:
    if len(values) < 2:
        return ''.join(f'{value:.2f}' for value in values)
    return f'{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}'


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is never half written."""
    part = path.with_suffix('.part')
    part.write_text(text)
    os.replace(part, path)
