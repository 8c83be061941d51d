# Copyright (c) sdd_mm contributors. All rights reserved.
"""Write a page on a distillation: what it learned, and from which cells.

    python tools/analysis/report.py work_dirs/demo/sd-kd/epoch_12.pth \
        --against work_dirs/demo/kd/epoch_12.pth --out work_dirs/demo/report

The page is OUT/report.html and needs no other file. Beside it are the figures
as PNG and their numbers as JSON.
"""
import argparse
import sys
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[:2])
from arguments import add_run_arguments  # noqa: E402

FIGURES = ('accuracy', 'loss-by-scale', 'loss-by-kind', 'cases-over-training',
           'cases', 'misclassified', 'won', 'correlations', 'features')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write a page on a distillation')
    parser.add_argument('checkpoint', type=Path, help='a checkpoint of it')
    parser.add_argument(
        '--against',
        type=Path,
        help='a checkpoint of another run with the same teacher and data, '
        'such as plain KD')
    add_run_arguments(parser)
    parser.add_argument(
        '--names',
        nargs='+',
        help='what the two are called. By default the names of their work '
        'dirs')
    parser.add_argument(
        '--out',
        type=Path,
        help='a folder. By default '
        'report/ in the work dir')
    parser.add_argument(
        '--images',
        type=int,
        default=2000,
        help='validation images to take, from all over the set')
    parser.add_argument(
        '--samples', type=int, default=6, help='images to show in a row')
    parser.add_argument(
        '--only',
        nargs='+',
        choices=FIGURES,
        help='figures to draw; all by default')
    parser.add_argument(
        '--backends',
        nargs='+',
        default=[],
        help='backends of MMEngine\'s visualizer that get the figures, too: '
        'LocalVisBackend, TensorboardVisBackend, WandbVisBackend')
    parser.set_defaults(figures=FIGURES)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from report_page import write_report  # sdd_mm, before the rest of it

    from sdd_mm import safety
    from sdd_mm.engine.errors import PreflightError
    from sdd_mm.models.algorithms import TeacherError
    safety.guard()
    try:
        page = write_report(args)
    except (PreflightError, TeacherError) as error:
        sys.exit(f'ERROR: {error}')
    print(f'Written to {page}')


if __name__ == '__main__':
    main()
