# Copyright (c) sdd_mm contributors. All rights reserved.
"""Measure what this project claims about its speed. See benchmarks/README.md.

    python tools/benchmark/speed.py loss          # one row
    python tools/benchmark/speed.py all           # every row, in order
    python tools/benchmark/speed.py write         # the tables of the page
"""
import argparse
import os
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.speed import ROWS  # noqa: E402


def parse_args(argv: list = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('row', choices=(*ROWS, 'all', 'write'))
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument(
        '--rounds',
        type=int,
        default=7,
        help='rounds that the cases take turns in. Defaults to 7')
    parser.add_argument(
        '--steps',
        type=int,
        help='training steps per case and round, with one log line. Defaults '
        'to 2 on the CPU and 100 on a GPU')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the results, or of the page. Defaults to '
        'benchmarks/DEVICE, or benchmarks/')
    parser.add_argument(
        '--data-root',
        help='folder that holds cifar-100-python/. Without it, images are '
        'generated')
    parser.add_argument(
        '--tiny',
        action='store_true',
        help='smallest sizes, to try the command: the numbers mean nothing')
    parser.add_argument(
        '--check',
        action='store_true',
        help='with write: write nothing, only compare')
    args = parser.parse_args(argv)
    if args.rounds < (1 if args.tiny else 5):
        parser.error('a median needs --rounds of 5 or more')
    if args.steps is None:
        args.steps = 2 if args.tiny or args.device == 'cpu' else 100
    if args.out is None:
        args.out = ROOT / 'benchmarks'
        if args.row != 'write':
            if args.tiny:
                parser.error('--tiny needs --out: its numbers are no results')
            args.out /= args.device
    return args


def main(argv: list = None) -> int:
    args = parse_args(argv)
    if args.row == 'write':
        from benchmarks.pages import PageError, update_speed
        try:
            stale = update_speed(args.out, args.check)
        except PageError as error:
            sys.exit(f'ERROR: {error}')
        verdict = 'differs from the results' if args.check else 'written'
        for name in stale:
            print(f'{args.out / name}: {verdict}')
        return int(args.check and bool(stale))
    if args.row == 'all':
        return run_all(sys.argv[1:] if argv is None else argv)
    prepare(args)
    from benchmarks.speed import run_row
    from benchmarks.speed.page import section
    found = run_row(args.row, args, args.out)
    print('\n'.join(section({args.device: found})), flush=True)
    return 0


def run_all(argv: list) -> int:
    """Every row in a process of its own, so that none inherits memory."""
    failed = []
    for row in ROWS:
        rest = [row if word == 'all' else word for word in argv]
        if subprocess.run([sys.executable, __file__, *rest]).returncode:
            failed.append(row)
    if failed:
        print(f'FAILED: {", ".join(failed)}')
    return int(bool(failed))


def prepare(args: argparse.Namespace) -> None:
    """Set up the device of the command line, before torch starts."""
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    warnings.filterwarnings('ignore')
    # torch's profiler reports on itself
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    import torch
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('ERROR: --device cuda: torch finds no GPU')


if __name__ == '__main__':
    sys.exit(main())
