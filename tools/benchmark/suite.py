# Copyright (c) sdd_mm contributors. All rights reserved.
"""Many runs, and the table of what they measured."""
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from runs import Run, replace, stop

LAST = 10  # epochs whose mean is told


@dataclass
class Row:
    """A row of a table: the same training with several seeds.

    Args:
        runs (list[Run]): One for each seed.
        config (str): The config's path in this repository. Defaults to ''.
        options (dict): What the row changes in it, but for the teacher's
            checkpoint. Defaults to {}.
        paper (float, optional): The paper's accuracy. Defaults to None.
        log (list[float]): Accuracies of the authors' logs. Defaults to [].
        panels (list[str]): Where its curve is drawn. Defaults to [], which
            is everywhere.
    """
    runs: List[Run]
    config: str = ''
    options: dict = field(default_factory=dict)
    paper: Optional[float] = None
    log: List[float] = field(default_factory=list)
    panels: List[str] = field(default_factory=list)

    def done(self) -> List[Run]:
        """The runs that have come to their end."""
        return [run for run in self.runs if run.done()]

    def diverged(self) -> List[int]:
        """The seeds whose loss was not finite."""
        return [run.seed for run in self.runs if run.diverged()]


Rows = Dict[str, Row]


def train_all(rows: Rows, jobs: int = 1) -> Iterator[Run]:
    """Train what is not done of all rows, seed by seed.

    Args:
        rows (dict[str, Row]): The rows by their titles.
        jobs (int): Trainings at a time. Defaults to 1.

    Yields:
        Run: Every run as it is done, or has diverged. Equal runs of two rows
            come once.
    """
    todo = {}
    for runs in zip(*(row.runs for row in rows.values()), strict=True):
        for title, run in zip(rows, runs):
            todo.setdefault(run.directory, (f'{title}, seed {run.seed}', run))
    start, trained = time.time(), 0

    def train(number: int, title: str, run: Run) -> Run:
        print(
            f'Run {number} of {len(todo)}: {title}: {run.epochs_done()} of '
            f'{run.max_epochs} epochs are done\n',
            end='',  # of one piece, or two jobs would share a line
            flush=True)
        run.train(title, every=60 if jobs > 1 else 0)
        return run

    ended = {
        name: run.done() or run.diverged()
        for name, (_, run) in todo.items()
    }
    waiting = [found for name, found in todo.items() if not ended[name]]
    for name, (_, run) in todo.items():
        if ended[name]:
            yield run
    number = len(todo) - len(waiting)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(train, number + count, title, run)
            for count, (title, run) in enumerate(waiting, 1)
        ]
        try:
            for future in as_completed(futures):
                run, trained = future.result(), trained + 1
                left = (time.time() - start) / trained * (
                    len(waiting) - trained)
                last = run.accuracy().get(run.max_epochs)
                print(
                    f'{run.directory.name}: '
                    f'{"diverged" if last is None else f"{last:.2f} %"}, eta '
                    f'{left / 60:.0f} min\n',
                    end='',
                    flush=True)
                yield run
        except BaseException:
            for future in futures:
                future.cancel()
            stop()
            raise


def write(path: Path,
          rows: Rows,
          notes: List[str],
          teachers: Optional[Rows] = None) -> str:
    """Write what was measured as JSON and, beside it, as a table.

    Args:
        path (Path): The JSON file.
        rows (dict[str, Row]): The rows by their titles. Runs that are not
            done are left out.
        notes (list[str]): What to know about the numbers.
        teachers (dict[str, Row], optional): The teachers that were trained.
            Defaults to None.

    Returns:
        str: The table, in Markdown.
    """
    results, taught = _results(rows), _results(teachers or {})
    text = '\n'.join([table(results), '', *notes, ''])
    replace(
        path,
        json.dumps(dict(rows=results, teachers=taught, notes=notes), indent=1))
    replace(path.with_suffix('.md'), text)
    return text


def _results(rows: Rows) -> List[dict]:
    return [
        dict(
            title=title,
            config=row.config,
            options=row.options,
            paper=row.paper,
            log=row.log,
            diverged=row.diverged(),
            runs=list(map(_measured, row.done())))
        for title, row in rows.items()
    ]


def _measured(run: Run) -> dict:
    accuracy = run.accuracy()
    return dict(
        seed=run.seed,
        directory=run.directory.name,
        epochs=run.max_epochs,
        last=accuracy[run.max_epochs],
        mean_of_last_10=statistics.mean(list(accuracy.values())[-LAST:]),
        best=max(accuracy.values()),
        seconds=round(run.seconds()),
        facts=run.facts(),
        accuracy=accuracy)


OPTIONAL = ('paper', "authors' log", 'diverged')  # columns without an entry
LEGEND = (
    'Top-1 (%) on the images that the config validates on, the test set where '
    'nothing else is said; mean +- standard deviation over the seeds. The '
    'best epoch is the best on those same images, as published numbers are.')


def table(results: List[dict]) -> str:
    """The table of what was measured, in Markdown."""
    head = [
        '', 'paper', "authors' log", 'last epoch', 'mean of last 10',
        'best epoch', 'seeds', 'diverged'
    ]
    cells = [head] + [[
        row['title'],
        '' if row['paper'] is None else f'{row["paper"]:.2f}',
        ', '.join(f'{value:.2f}' for value in row['log']),
        *(spread([run[key] for run in row['runs']])
          for key in ('last', 'mean_of_last_10', 'best')),
        ', '.join(str(run['seed']) for run in row['runs']),
        ', '.join(map(str, row['diverged'])),
    ] for row in results]
    kept = [
        column for column, name in enumerate(head)
        if name not in OPTIONAL or any(row[column] for row in cells[1:])
    ]
    first, *lines = [
        f'| {" | ".join(row[column] for column in kept)} |' for row in cells
    ]
    return '\n'.join([first, '|---' * len(kept) + '|', *lines, '', LEGEND])


def spread(values: List[float]) -> str:
    """Mean and standard deviation."""
    if len(values) < 2:
        return ''.join(f'{value:.2f}' for value in values)
    return f'{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}'
