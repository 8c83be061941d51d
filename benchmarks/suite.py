# Copyright (c) sdd_mm contributors. All rights reserved.
"""Suites: lists of configs, options and seeds, trained into one table.

A suite has

- ``rows``: by title, dicts of ``config`` and, if needed, ``options``,
  ``teacher`` (which replaces the suite's), ``head`` (a run of SSKD's, after
  its teacher's), ``panel`` (of the figure) and ``paper`` (a published accuracy
  that no metafile has);
- ``seeds`` and ``notes``;
- ``reference``: the title of a row from which the others' differences are
  written and drawn;
- ``teacher``: the config of the teacher, trained first. Without it a row takes
  the ``teacher_ckpt`` of its config;
- ``teacher_ckpt``: a checkpoint in this repository, instead of training it;
- ``options`` of every run and ``teacher_options`` of the teachers.
"""
import functools
import os
import signal
import sys
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Callable, Dict, List, Optional

import torch

from . import differences, figures
from .launch import TimeLimit
from .metafiles import Metafiles
from .results import Row, Rows, recall, train_all, write
from .runs import ROOT, Run, RunError, check_teacher, digest, read

from mmengine.config import Config  # isort: skip  (sdd_mm comes first)
from sdd_mm.engine.errors import PreflightError  # isort: skip
from sdd_mm.errors import SDDError  # isort: skip

SUITES = ROOT / 'benchmarks' / 'suites'
TEACHER = 'model.teacher_ckpt'
HEAD = 'model.distiller.distill_losses.loss_relation.teacher_head'
# keys that seeds and resumption need for themselves
RESERVED = {
    TEACHER: 'use --teacher-ckpt',
    'randomness.seed': 'use --seeds',
    'work_dir': 'use --work-dir',
    'load_from': 'runs resume by themselves',
    'resume': 'runs resume by themselves',
    'default_hooks.checkpoint': 'resuming needs it as it is',
}


def load(name: str) -> Config:
    """A suite by its name or its path."""
    from .tables import SUITES as TABLES
    if name in TABLES:
        return Config(TABLES[name]())
    path = SUITES / f'{name}.py' if not name.endswith('.py') else Path(name)
    if not path.is_file():
        known = sorted([path.stem
                        for path in SUITES.glob('*.py')] + list(TABLES))
        near = get_close_matches(name, known, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        raise RunError(f'there is no suite {name!r}, only '
                       f'{", ".join(known)}.{hint}')
    return Config.fromfile(path)


def select(suite: Config, patterns: List[str]) -> None:
    """Keep the rows whose title, or name of config, matches a pattern.

    Raises:
        RunError: If there is none.
    """
    kept = {
        title: row
        for title, row in suite['rows'].items() if any(
            fnmatch(name, pattern) for pattern in patterns
            for name in (title, Path(row['config']).stem))
    }
    if not kept:
        raise RunError(f'--only {" ".join(patterns)} matches none of the rows '
                       f'{", ".join(suite["rows"])}')
    suite['rows'] = kept


def take_part(suite: Config, part: str) -> None:
    """Keep the rows of one job of an array.

    Args:
        suite (Config): The suite, changed in place.
        part (str): 'I/N', the I-th of N jobs, counted from 0: every N-th row.

    Raises:
        RunError: If there is no such part.
    """
    try:
        number, count = map(int, part.split('/'))
    except ValueError:
        number, count = -1, 0
    titles = list(suite['rows'])[number::count] if 0 <= number < count else []
    if not titles:
        raise RunError(f'--part {part} must be I/N with I from 0 to N - 1, '
                       f'and N no more than {len(suite["rows"])} rows')
    suite['rows'] = {title: suite['rows'][title] for title in titles}


def check_options(options: dict, reserved: Dict[str, str] = RESERVED) -> None:
    """Refuse options that would undo what makes the rows."""
    for option in options:
        for key, reason in reserved.items():
            if f'{option}.'.startswith(f'{key}.') or f'{key}.'.startswith(
                    f'{option}.'):
                raise PreflightError(f'--cfg-options {option}: {reason}')


def teacher_of(suite: dict, row: dict) -> Optional[str]:
    """The config of a row's teacher, if the suite trains it."""
    return row.get('teacher', suite.get('teacher'))


def make_teachers(suite: dict,
                  work_dir: Path,
                  options: dict,
                  gpus: int = 1) -> Rows:
    """The run of every teacher that the suite trains, by its config."""
    changed = {
        **suite.get('options', {}),
        **suite.get('teacher_options', {}),
        **options
    }
    configs = {teacher_of(suite, row) for row in suite['rows'].values()}
    return {
        config:
        Row([Run(ROOT / config, work_dir, changed, gpus=gpus)], config,
            changed)
        for config in sorted(configs - {None})
    }


def make_heads(suite: dict,
               work_dir: Path,
               options: dict,
               teachers: Callable[[str], Optional[str]],
               gpus: int = 1) -> Rows:
    """The runs of the rotation heads that SSKD needs, by their configs."""
    changed = {**suite.get('options', {}), **options}
    found = {
        row['head']: teacher_of(suite, row)
        for row in suite['rows'].values() if 'head' in row
    }
    return {
        head:
        Row([
            Run(ROOT / head,
                work_dir, {
                    **changed, TEACHER: teachers(teacher)
                },
                gpus=gpus)
        ], head, changed)
        for head, teacher in sorted(found.items())
    }


def last_checkpoint(row: Row) -> str:
    """The last checkpoint of a row of one run."""
    run, = row.runs
    return str(run.checkpoint(run.max_epochs))


def make_rows(suite: dict,
              seeds: List[int],
              work_dir: Path,
              options: dict,
              teachers: Callable[[str], Optional[str]],
              gpus: int = 1,
              heads: Optional[Rows] = None) -> Rows:
    """The rows of a suite by title.

    ``teachers`` maps the config of a teacher to its checkpoint, or to None if
    the row's config names one. ``heads`` are the runs of :func:`make_heads`.
    """
    rows, published = {}, publications()
    for title, row in suite['rows'].items():
        changed = {
            **suite.get('options', {}),
            **row.get('options', {}),
            **options
        }
        own = dict(changed)
        if 'teacher' in read(ROOT / row['config']).model:
            checkpoint = teachers(teacher_of(suite, row))
            if checkpoint is not None:
                own[TEACHER] = checkpoint
        if 'head' in row and heads:
            own[HEAD] = last_checkpoint(heads[row['head']])
        panels = row.get('panel', [])
        # changed rows and other schedules stand beside no published number
        known = {} if changed else published.get(row['config'], {})
        rows[title] = Row([
            Run(ROOT / row['config'], work_dir, own, seed, gpus)
            for seed in seeds
        ], row['config'], changed, row.get('paper', known.get('Paper')),
                          known.get('Original'), known.get("Authors' log", []),
                          [panels] if isinstance(panels, str) else panels)
    return rows


@functools.lru_cache(maxsize=None)
def publications() -> Dict[str, dict]:
    """Published accuracies by the path of the config."""
    models = Metafiles(ROOT).models.values()
    return {
        model['Config']: model.get('Metadata', {}).get('Published', {})
        for model in models
    }


def train_teachers(teachers: Rows,
                   limit: TimeLimit,
                   kind: str = 'teacher') -> List[str]:
    """Train the teachers that are not done; a note on each."""
    notes = []
    for config, row in teachers.items():
        run, = row.runs
        try:
            run.train(kind)
        except RunError as error:
            if not limit.over():
                raise
            raise RunError(
                f'the time is over after {run.epochs_done()} of '
                f'{run.max_epochs} epochs of the {kind} {config}: the same '
                'command goes on from there') from error
        if run.diverged():
            raise RunError(f'the {kind} {config} has diverged, see '
                           f'{run.directory}')
        accuracy = run.accuracy()
        notes.append(f'{kind.capitalize()}: {config}, seed {run.seed}, '
                     f'{run.max_epochs} epochs: '
                     f'{accuracy[run.max_epochs]:.2f} % after the last, '
                     f'{max(accuracy.values()):.2f} % at best.')
        print(notes[-1], flush=True)
    return notes


def run(suite: dict,
        path: Path,
        work_dir: Path,
        seeds: List[int],
        options: dict,
        teacher_ckpt: Optional[str] = None,
        jobs: int = 1,
        gpus: int = 1,
        minutes: Optional[float] = None,
        teachers_only: bool = False,
        recorded: bool = False) -> str:
    """Train a suite and write its table.

    Args:
        suite (dict): The suite.
        path (Path): The JSON file of the results; table and figure go beside
            it. The hash of ``options`` becomes a part of their names.
        work_dir (Path): The parent of the runs' directories.
        seeds (list[int]): The seeds of every row.
        options (dict): A trial's settings, of every run and every teacher.
        teacher_ckpt (str, optional): The checkpoint of all teachers. Defaults
            to None: they are trained.
        jobs (int): Number of trainings at a time. Defaults to 1.
        gpus (int): Processes of each training. Defaults to 1.
        minutes (float, optional): The time after which trainings are stopped
            and the table has what is done. Defaults to None: no limit.
        teachers_only (bool): Whether to end when the teachers are trained.
            Defaults to False.
        recorded (bool): Whether runs that ``path`` has are done. Defaults to
            False.

    Returns:
        str: The table, and the names of the files.
    """
    with TimeLimit(minutes) as limit:
        return _run(suite, path, work_dir, seeds, options, teacher_ckpt, jobs,
                    gpus, limit, teachers_only, recorded)


def _run(suite: dict, path: Path, work_dir: Path, seeds: List[int],
         options: dict, teacher_ckpt: Optional[str], jobs: int, gpus: int,
         limit: TimeLimit, teachers_only: bool, recorded: bool) -> str:
    check_options(options)
    if torch.cuda.is_available() and gpus > torch.cuda.device_count():
        raise RunError(f'--gpus {gpus}: torch finds '
                       f'{torch.cuda.device_count()}')
    share_processors(jobs * gpus)
    taught, notes = {}, []
    if teacher_ckpt is None and 'teacher_ckpt' in suite:
        teacher_ckpt = str(ROOT / suite['teacher_ckpt'])
    if teacher_ckpt is not None:
        check_teacher(teacher_ckpt)
        notes = [f'Teacher: {Path(teacher_ckpt).name}.']
    else:
        taught = make_teachers(suite, work_dir, options, gpus)
        notes = train_teachers(taught, limit)

    def teachers(config: Optional[str]) -> Optional[str]:
        if config not in taught:
            return teacher_ckpt
        return last_checkpoint(taught[config])

    heads = make_heads(suite, work_dir, options, teachers, gpus)
    notes += train_teachers(heads, limit, 'rotation head')
    if teachers_only:
        return '\n'.join(notes)
    seeds = list(dict.fromkeys(seeds))
    rows = make_rows(suite, seeds, work_dir, options, teachers, gpus, heads)
    if options:
        path = path.with_name(f'{path.stem}-{digest(options)}.json')
    if recorded:
        recall(path, rows)
    text = ''
    for _ in train_all(rows, jobs, limit):
        text = write(path, rows, [*suite['notes'], *notes], taught,
                     suite.get('reference'))
    picture = path.with_suffix('.png')
    figures.draw(
        {
            title: ([one.accuracy() for one in row.done()], row.panels)
            for title, row in rows.items() if row.done()
        }, picture, path.stem)
    reference = suite.get('reference')
    if reference is not None:
        differences.draw([row.as_dict(title) for title, row in rows.items()],
                         reference,
                         path.with_name(f'{path.stem}-differences.png'))
    return (f'\n{text}\nWritten to {path}, {path.with_suffix(".md")} and '
            f'{picture}')


def share_processors(processes: int) -> None:
    """Give each process its part of them, unless OMP_NUM_THREADS is set."""
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    os.environ.setdefault('OMP_NUM_THREADS', str(threads))
    # what the facts of a run say
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


def as_command(main: Callable[[], str]) -> None:
    """Run a command that may be interrupted; print its result or its error."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(main())
    except (SDDError, RunError) as error:
        sys.exit(f'ERROR: {error}')
    except KeyboardInterrupt:
        print('Interrupted. The same command resumes from here')
        sys.exit(130)
