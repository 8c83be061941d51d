# Copyright (c) sdd_mm contributors. All rights reserved.
"""Run a suite of benchmarks. See docs/en/benchmark.md.

    python tools/benchmark/reproduce.py demo --jobs 2

Trains the suite's teacher, then every row with every seed, each by
tools/train.py. What is done is not trained again; kill it at any time, the
same command goes on.
"""
import argparse
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, Optional

import torch
import yaml
from curves import draw
from mmengine.config import Config, DictAction
from runs import (Run, RunError, as_command, check_teacher, digest, positive)
from suite import Row, Rows, train_all, write

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / 'benchmarks' / 'suites'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run a suite of benchmarks/suites. What is done is not '
        'trained again: kill it at any time, the same command goes on')
    parser.add_argument('suite', help='name of a suite, or path of another')
    parser.add_argument(
        '--seeds', type=int, nargs='+', help='other seeds than the suite\'s')
    parser.add_argument(
        '--jobs',
        type=positive,
        default=1,
        help='trainings at a time; they share the processors')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/benchmarks'))
    parser.add_argument(
        '--teacher-ckpt', help='take this teacher, and train none')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='a trial: settings to override in every run')
    return parser.parse_args()


def load(name: str) -> Config:
    """A suite by its name or its path."""
    path = SUITES / f'{name}.py' if not name.endswith('.py') else Path(name)
    if not path.is_file():
        known = sorted(path.stem for path in SUITES.glob('*.py'))
        near = get_close_matches(name, known, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        raise RunError(f'there is no suite {name!r}, only '
                       f'{", ".join(known)}.{hint}')
    return Config.fromfile(path)


def find_teachers(suite: Config, work_dir: Path, options: dict) -> Rows:
    """The run of every teacher that the suite trains, by its config."""
    changed = {
        **suite.get('options', {}),
        **suite.get('teacher_options', {}),
        **options
    }
    configs = {
        row.get('teacher', suite.get('teacher'))
        for row in suite.rows.values()
    } - {None}
    return {
        config: Row([Run(ROOT / config, work_dir, changed)], config, changed)
        for config in sorted(configs)
    }


def make_rows(suite: Config, seeds: list, work_dir: Path, options: dict,
              teachers: Dict[str, str]) -> Rows:
    """The rows of a suite.

    Args:
        suite (Config): The suite.
        seeds (list[int]): The seeds of every row.
        work_dir (Path): Where the runs go.
        options (dict): A trial's settings.
        teachers (dict[str, str]): Checkpoints by the teachers' configs.

    Returns:
        dict[str, Row]: Each row by its title.
    """
    rows, published = {}, publications()
    for title, row in suite.rows.items():
        own = {**suite.get('options', {}), **row.get('options', {}), **options}
        teacher = row.get('teacher', suite.get('teacher'))
        if teacher is not None and 'teacher' in Config.fromfile(
                ROOT / row.config).model:
            own['model.teacher_ckpt'] = teachers[teacher]
        panels = row.get('panel', [])
        panels = [panels] if isinstance(panels, str) else panels
        changed = {
            key: value
            for key, value in own.items() if key != 'model.teacher_ckpt'
        }
        # changed rows and other schedules stand beside no published number
        known = {} if changed else published.get(row.config, {})
        rows[title] = Row(
            [Run(ROOT / row.config, work_dir, own, seed) for seed in seeds],
            row.config, changed, known.get('Paper'),
            known.get("Authors' log", []), panels)
    return rows


def publications() -> Dict[str, dict]:
    """Published accuracies by the path of the config."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    return {
        model['Config']: model.get('Metadata', {}).get('Published', {})
        for path in index['Import']
        for model in yaml.safe_load((ROOT / path).read_text())['Models']
    }


def train_teachers(teachers: Rows) -> list:
    """Train what is not done, and say what came out."""
    notes = []
    for config, row in teachers.items():
        run, = row.runs
        run.train('teacher')
        if run.diverged():
            raise RunError(f'the teacher {config} has diverged, see '
                           f'{run.directory}')
        accuracy = run.accuracy()
        notes.append(
            f'Teacher: {config}, seed {run.seed}, {run.max_epochs} epochs: '
            f'{accuracy[run.max_epochs]:.2f} % after the last, '
            f'{max(accuracy.values()):.2f} % at best.')
        print(notes[-1], flush=True)
    return notes


def facts(rows: Rows) -> Optional[str]:
    """Hardware and versions of all runs that are done."""
    found = {}
    for row in rows.values():
        for run in row.done():
            for name, values in run.facts().items():
                kept = found.setdefault(name, [])
                kept += [value for value in values if value not in kept]
    if not found:
        return None
    text = {
        name: ' and '.join(map(str, values))
        for name, values in found.items()
    }
    device = text['gpu'] if found['gpu'] != [None] else (
        f'{text["processor"]}, threads a run: {text["threads"]}')
    return (f'{device}; Python {text["python"]}, torch {text["torch"]}, '
            f'mmengine {text["mmengine"]}, mmpretrain {text["mmpretrain"]}, '
            f'mmrazor {text["mmrazor"]}; commit {text["commit"]}.')


def share_processors(jobs: int) -> None:
    """Give each training its part of them, unless OMP_NUM_THREADS says."""
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    os.environ.setdefault('OMP_NUM_THREADS', str(threads))
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))  # what is told


def main() -> None:
    args = parse_args()
    share_processors(args.jobs)
    suite = load(args.suite)
    name = Path(args.suite).stem
    seeds = list(dict.fromkeys(args.seeds or suite.seeds))
    work_dir = args.work_dir / name
    taught = {}
    if args.teacher_ckpt is None:
        taught = find_teachers(suite, work_dir, args.cfg_options)
        told = train_teachers(taught)
        teachers = {
            config: str(row.runs[0].checkpoint(row.runs[0].max_epochs))
            for config, row in taught.items()
        }
    else:
        check_teacher(args.teacher_ckpt, 'Name another by --teacher-ckpt')
        teachers = dict.fromkeys([
            row.get('teacher', suite.get('teacher'))
            for row in suite.rows.values()
        ], args.teacher_ckpt)
        told = [f'Teacher: {Path(args.teacher_ckpt).name}.']
    rows = make_rows(suite, seeds, work_dir, args.cfg_options, teachers)
    # trials leave the suite's own page alone
    trial = args.cfg_options or args.seeds or args.teacher_ckpt
    own = not trial and not args.suite.endswith('.py')
    suffix = f'-{digest(args.cfg_options)}' if args.cfg_options else ''
    path = (SUITES.parent if own else work_dir) / f'{name}{suffix}.json'
    text = ''
    for _ in train_all(rows, args.jobs):
        text = write(path, rows, [*suite.notes, *told, facts(rows)], taught)
    draw(rows, path.with_suffix('.png'), name)
    print(f'\n{text}\nWritten to {path}, {path.with_suffix(".md")} and '
          f'{path.with_suffix(".png")}')


if __name__ == '__main__':
    as_command(main)
