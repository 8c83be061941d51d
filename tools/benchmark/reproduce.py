# Copyright (c) sdd_mm contributors. All rights reserved.
"""Run a suite of benchmarks. See docs/en/benchmark.md.

    python tools/benchmark/reproduce.py demo --jobs 2

Trains the suite's teacher, then every row with every seed, each by
tools/train.py. What is done is not trained again: kill it at any time, the
same command resumes.
"""
import argparse
import sys
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])
from arguments import add_settings, parse_settings, positive  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run a suite of benchmarks/suites. What is done is not '
        'trained again: kill it at any time, the same command resumes')
    parser.add_argument('suite', help='name of a suite, or path of another')
    parser.add_argument(
        '--seeds', type=int, nargs='+', help='other seeds than the suite\'s')
    parser.add_argument(
        '--jobs',
        type=positive,
        default=1,
        help='trainings at a time; they share the processors')
    parser.add_argument(
        '--gpus',
        type=positive,
        default=1,
        help='processes of each training, one per GPU. Images per step must '
        'be those that the config\'s learning rate is meant for')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/benchmarks'))
    parser.add_argument(
        '--only',
        nargs='+',
        metavar='PATTERN',
        help='a trial: rows whose title or config matches, such as KD or '
        "'sd-kd_*'")
    parser.add_argument(
        '--part',
        metavar='I/N',
        help='the I-th of N jobs of an array, from 0: every N-th row. Train '
        'the teachers first; the same command without it writes the table')
    parser.add_argument(
        '--teachers-only',
        action='store_true',
        help="end when the teachers (and SSKD's rotation heads) are trained")
    parser.add_argument(
        '--recorded',
        action='store_true',
        help='train only what the table does not have yet, whichever machine '
        'it is from; needs a suite whose teacher is in the repository')
    parser.add_argument(
        '--minutes',
        type=float,
        help='stop the trainings after so long, and write the table of what '
        'is done; the same command resumes')
    parser.add_argument(
        '--teacher-ckpt', help='take this teacher, and train none')
    add_settings(parser, help='a trial: settings to override in every run')
    return parser.parse_args()


def reproduce(args: argparse.Namespace) -> str:
    from benchmarks.suite import SUITES, load, run, select, take_part
    suite, name = load(args.suite), Path(args.suite).stem
    options = parse_settings(args.cfg_options) or {}
    work_dir = args.work_dir / name
    if args.only:
        select(suite, args.only)
    if args.part:
        take_part(suite, args.part)
    # trials leave the suite's own page alone
    own = not (options or args.seeds or args.teacher_ckpt or args.only
               or args.part or args.suite.endswith('.py'))
    if args.part:
        name += f'-{args.part.replace("/", "-of-")}'
    return run(
        suite, (SUITES.parent if own else work_dir) / f'{name}.json',
        work_dir,
        args.seeds or suite.seeds,
        options,
        args.teacher_ckpt,
        jobs=args.jobs,
        gpus=args.gpus,
        minutes=args.minutes,
        teachers_only=args.teachers_only,
        recorded=args.recorded)


def main() -> None:
    args = parse_args()
    from benchmarks.suite import as_command
    as_command(lambda: reproduce(args))


if __name__ == '__main__':
    main()
