# Copyright (c) sdd_mm contributors. All rights reserved.
"""Run an ablation of the paper. See docs/en/benchmark.md.

    python tools/benchmark/ablation.py table7 --pair demo

tools/train.py trains every row with every seed. What is done is not trained
again: kill it at any time, the same command resumes.
"""
import argparse
import sys
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])
from arguments import add_settings, parse_settings  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run an ablation of the paper. What is done is not '
        'trained again: kill it at any time, the same command resumes')
    parser.add_argument('table', choices=('table6', 'table7', 'table8'))
    parser.add_argument(
        '--pair',
        choices=('demo', 'res32x4_res8x4_cifar100', 'res32x4_shuv1_cifar100'),
        required=True)
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='seeds of every row')
    parser.add_argument(
        '--teacher-ckpt',
        help='path or URL of the teacher. Defaults to that of the config; the '
        'demo trains its own')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/ablations'))
    add_settings(
        parser,
        help='a trial: settings to override in every run, such as '
        'train_cfg.max_epochs=2')
    return parser.parse_args()


def ablate(args: argparse.Namespace) -> str:
    from benchmarks.ablation import OPTIONS, make_suite
    from benchmarks.suite import check_options, run
    options = parse_settings(args.cfg_options) or {}
    check_options(options, OPTIONS)
    work_dir = args.work_dir / args.pair
    return run(
        make_suite(args.table, args.pair,
                   trial=bool(options)), work_dir / f'{args.table}.json',
        work_dir, args.seeds, options, args.teacher_ckpt)


def main() -> None:
    args = parse_args()
    from benchmarks.suite import as_command
    as_command(lambda: ablate(args))


if __name__ == '__main__':
    main()
