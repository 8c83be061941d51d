# Copyright (c) sdd_mm contributors. All rights reserved.
"""Write a page about a distillation: what it learned, from which cells.

    python tools/analysis/report.py work_dirs/demo/sd-kd/epoch_12.pth \
        --against work_dirs/demo/kd/epoch_12.pth --out work_dirs/demo/report

The page is OUT/report.html and needs no other file. The figures are also
written as PNG, and their numbers as JSON.
"""
import argparse
import sys
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[:2])
from arguments import add_run_arguments  # noqa: E402

FIGURES = ('verdicts', 'accuracy', 'loss-by-scale', 'loss-by-kind',
           'cases-over-training', 'cases', 'misclassified', 'won',
           'correlations', 'features')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write a page about a distillation')
    parser.add_argument('checkpoint', type=Path, help='its checkpoint')
    parser.add_argument(
        '--against',
        type=Path,
        help='a checkpoint of another run with the same teacher and data, '
        'such as plain KD')
    parser.add_argument(
        '--alone',
        type=Path,
        help='a checkpoint of the student trained without a teacher')
    add_run_arguments(parser)
    parser.add_argument(
        '--names',
        nargs='+',
        help='names of the two runs (default: their work dirs)')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder to write (default: report/ in the work dir)')
    parser.add_argument(
        '--images',
        type=int,
        default=2000,
        help='number of validation images, evenly spaced')
    parser.add_argument(
        '--samples', type=int, default=6, help='images to show per row')
    parser.add_argument(
        '--only',
        nargs='+',
        choices=FIGURES,
        help='figures to draw (default: all)')
    parser.add_argument(
        '--backends',
        nargs='+',
        default=[],
        help='visualizer backends of MMEngine that also get the figures: '
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
