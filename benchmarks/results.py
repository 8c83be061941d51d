# Copyright (c) sdd_mm contributors. All rights reserved.
"""Many runs, what they measured, and the table of it."""
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from .environment import versions
from .launch import RunError, TimeLimit, stop
from .pages import suite_page
from .runs import Run, replace

LAST = 10  # the table has the mean of so many last epochs


@dataclass
class Row:
    """A row of a table: the same training with several seeds.

    Args:
        runs (list[Run]): One per seed.
        config (str): The config's path in this repository. Defaults to ''.
        options (dict): What the row changes in it, except for the teacher's
            checkpoint. Defaults to {}.
        paper (float, optional): The paper's accuracy. Defaults to None.
        original (float, optional): That of the method's own paper. Defaults to
            None.
        log (list[float]): Accuracies of the authors' logs. Defaults to [].
        panels (list[str]): The panels that show its curve. Defaults to [],
            which is all of them.
    """
    runs: List[Run]
    config: str = ''
    options: dict = field(default_factory=dict)
    paper: Optional[float] = None
    original: Optional[float] = None
    log: List[float] = field(default_factory=list)
    panels: List[str] = field(default_factory=list)

    def done(self) -> List[Run]:
        """The runs whose last epoch is done."""
        return [run for run in self.runs if run.done()]

    def as_dict(self, title: str) -> dict:
        """What was measured, for the JSON file."""
        return dict(
            title=title,
            config=self.config,
            options=self.options,
            paper=self.paper,
            original=self.original,
            log=self.log,
            diverged=[run.seed for run in self.runs if run.diverged()],
            runs=list(map(_measured, self.done())))


Rows = Dict[str, Row]


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


def recall(path: Path, rows: Rows) -> None:
    """Count runs as done that the table of another machine has."""
    if not path.is_file():
        return
    known = {
        run['directory']: run
        for row in json.loads(path.read_text())['rows']
        for run in row['runs']
    }
    for row in rows.values():
        for run in row.runs:
            if not run.directory.exists():
                run.recorded = known.get(run.directory.name)


def train_all(rows: Rows,
              jobs: int = 1,
              limit: Optional[TimeLimit] = None) -> Iterator[Run]:
    """Train what is not done of all rows, seed by seed.

    Yields every run when it is done, has diverged, or is stopped because the
    time is over; equal runs come once.
    """
    limit = limit or TimeLimit()
    todo = {}
    for runs in zip(*(row.runs for row in rows.values()), strict=True):
        for title, run in zip(rows, runs):
            todo.setdefault(run.directory, (f'{title}, seed {run.seed}', run))
    total, waiting = len(todo), []
    for title, run in todo.values():
        if run.done() or run.diverged():
            yield run
        else:
            waiting.append((title, run))
    start = time.time()

    def train(number: int, title: str, run: Run) -> Run:
        if limit.over():
            return run
        _say(f'Run {number} of {total}: {title}: {run.epochs_done()} of '
             f'{run.max_epochs} epochs are done')
        try:
            run.train(title, '\n' if jobs > 1 else '\r')
        except RunError:
            if not limit.over():
                raise
        return run

    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(train, number, *one)
            for number, one in enumerate(waiting, total - len(waiting) + 1)
        ]
        try:
            for trained, future in enumerate(as_completed(futures), 1):
                run = future.result()
                left = (time.time() - start) * (len(futures) / trained - 1)
                last = run.accuracy().get(run.max_epochs)
                found = 'diverged' if run.diverged() else (
                    'the time is over' if last is None else f'{last:.2f} %')
                _say(f'{run.directory.name}: {found}, eta {left / 60:.0f} min')
                yield run
        except BaseException:
            for future in futures:
                future.cancel()
            stop()
            raise


def _say(line: str) -> None:
    # in one piece, or two jobs would share a line
    print(f'{line}\n', end='', flush=True)


def write(path: Path,
          rows: Rows,
          notes: List[str],
          teachers: Optional[Rows] = None,
          reference: Optional[str] = None) -> str:
    """Write what was measured as JSON and, beside it, as a table.

    With the title of a ``reference``, the table has the other rows'
    differences from it.
    """
    found = dict(
        rows=[row.as_dict(title) for title, row in rows.items()],
        teachers=[row.as_dict(name) for name, row in (teachers or {}).items()],
        notes=[*notes, *facts([*rows.values()])],
        reference=reference)
    replace(path, json.dumps(found, indent=1))
    text = suite_page(found)
    replace(path.with_suffix('.md'), text)
    return text


def facts(rows: List[Row]) -> List[str]:
    """A sentence on the hardware and the versions of all runs."""
    found = {}
    for row in rows:
        for run in row.done():
            for name, values in run.facts().items():
                kept = found.setdefault(name, [])
                kept += [value for value in values if value not in kept]
    if not found:
        return []
    text = {
        name: ' and '.join(map(str, filter(None, values)))
        for name, values in found.items()
    }
    device = text['gpu'] or (
        f'{text["processor"]}, threads per run: {text["threads"]}')
    return [
        f'{device}; Python {text["python"]}, {versions(text)}; commit '
        f'{text["commit"]}.'
    ]
