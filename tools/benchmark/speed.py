# Copyright (c) sdd_mm contributors. All rights reserved.
"""Measure what this project claims about its speed. See benchmarks/README.md.

    python tools/benchmark/speed.py loss          # one row
    python tools/benchmark/speed.py all           # every row, in order
    python tools/benchmark/speed.py write         # the tables of the page
"""
import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = ('step', 'loss', 'saved', 'sync', 'cache', 'overhead', 'checkpoint',
        'growth')


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
        help='training steps of a case in a round, which has one log line. '
        'Defaults to 2 on the CPU and 100 on a GPU')
    parser.add_argument(
        '--out',
        type=Path,
        help='where the results go, or the page is. '
        'Defaults to benchmarks/DEVICE, or benchmarks/')
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


def run_row(args: argparse.Namespace) -> dict:
    """Run one row; write what it found as JSON and as a figure."""
    from claims import figures
    row = importlib.import_module(f'claims.{args.row}')
    start = time.time()
    found = row.run(args).as_dict(args)
    found['seconds'] = round(time.time() - start)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f'{args.row}.json'
    path.write_text(json.dumps(found, indent=1) + '\n')
    figures.draw(found, path.with_suffix('.png'))
    return found


def report(found: dict) -> str:
    """What a row found, as text."""
    facts = found['environment']
    lines = [f'{found["row"]}: {found["says"]}']
    for one in found['claims']:
        spread = '' if one['low'] is None else (
            f' [{one["low"]:.3g} to {one["high"]:.3g}]')
        goal = '' if one['goal'] is None else (
            f', goal {one["goal"]:g}: {"met" if one["met"] else "NOT MET"}')
        beside = '' if one['processor'] is None else (
            f'; in processor time {one["processor"]:.4g}')
        lines.append(f'  {one["title"]}: {one["value"]:.4g} {one["unit"]}'
                     f'{spread}{goal}{beside}')
    lines += [f'  {note}' for note in found['notes']]
    lines.append(
        f'  n = {found["rounds"]} rounds, wall time, medians [smallest to '
        f'largest round], {found["seconds"]} s, load {facts["load"]}')
    lines.append('  ' + ', '.join(f'{key} {value}'
                                  for key, value in facts.items()
                                  if value is not None and key != 'load'))
    return '\n'.join(lines)


def main(argv: list = None) -> int:
    args = parse_args(argv)
    if args.row == 'write':
        from claims import page
        try:
            same = page.update(args.out, ROWS, args.check)
        except page.PageError as error:
            sys.exit(f'ERROR: {error}')
        verdict = 'not what the results say' if args.check else 'written'
        if not same:
            print(f'{args.out / "README.md"}: {verdict}')
        return int(args.check and not same)
    if args.row == 'all':
        return run_all(sys.argv[1:] if argv is None else argv)
    prepare(args)
    print(report(run_row(args)), flush=True)
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
    """Make the device what the command line says, before torch starts."""
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    warnings.filterwarnings('ignore')
    # torch's profiler tells about itself
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    import torch
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('ERROR: --device cuda: torch finds no GPU')


if __name__ == '__main__':
    sys.exit(main())
