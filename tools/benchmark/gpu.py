# Copyright (c) sdd_mm contributors. All rights reserved.
"""The first minutes on a GPU: tests, speed rows, and CIFAR-100.

    python tools/benchmark/gpu.py --minutes 30 --out work_dirs/gpu

In this order: the tests that need a GPU, every speed row with --device cuda,
and trainings of the suite cifar100-gpu (data/cifar100) until the time is over.
It ends by itself, says last what it found, and leaves few files. The same
command goes on with what was not trained.
"""
import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.speed import ROWS  # noqa: E402

PARTS = ('tests', 'speed', 'train')
# the rows that matter most come first, should the time not be enough
ORDER = ('step', 'loss', 'sync', 'overhead', 'methods', 'cache', 'growth',
         'saved', 'checkpoint')
# seconds that are kept for writing results
RESERVE = 15
# seconds from one packing of the results to the next
PACKED_EVERY = 20


def parse_args(argv: list = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--minutes', type=float, required=True, help='the time of all parts')
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the results')
    parser.add_argument(
        '--parts', nargs='+', choices=PARTS, default=PARTS, help='not all')
    parser.add_argument(
        '--pytest',
        default='-m gpu',
        help='arguments of pytest. Defaults to "-m gpu"; "--dist loadfile" '
        'runs all tests')
    parser.add_argument(
        '--rows',
        nargs='+',
        choices=ROWS,
        default=ORDER,
        help='speed rows. Defaults to all')
    parser.add_argument(
        '--steps',
        default='20',
        help='training steps of a case per round of a speed row. '
        'Defaults to 20')
    parser.add_argument(
        '--suite', default='cifar100-gpu', help='the suite that is trained')
    parser.add_argument(
        '--jobs', default='4', help='trainings at a time. Defaults to 4')
    parser.add_argument(
        '--work-dir', type=Path, default=ROOT / 'work_dirs' / 'benchmarks')
    parser.add_argument(
        '--tiny',
        action='store_true',
        help='a rehearsal on the CPU: the numbers mean nothing')
    return parser.parse_args(argv)


class Parts:
    """The parts of the command, which share its time."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.end = time.monotonic() + 60 * args.minutes - RESERVE
        self.found = []
        self.logs = args.work_dir / 'gpu'
        for folder in (args.out, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def call(self, name: str, *command: str) -> bool:
        """Run a command, at most until the time is over."""
        start = time.monotonic()
        if self.left() < 1:
            self.found.append(f'{name}: left out, the time is over')
            return False
        with (self.logs / f'{name}.log').open('w') as log:
            process = subprocess.Popen([sys.executable, *map(str, command)],
                                       cwd=ROOT,
                                       stdout=log,
                                       stderr=subprocess.STDOUT,
                                       env=dict(
                                           os.environ, PYTHONUNBUFFERED='1'))
            code = self.wait(process)
            if code is None:
                code = 'none, it was stopped'
                process.send_signal(signal.SIGINT)  # pytest sums up
                try:
                    process.wait(RESERVE / 2)
                except subprocess.TimeoutExpired:
                    process.kill()
        self.found.append(f'{name}: {time.monotonic() - start:.0f} s, '
                          f'exit code {code}')
        print(self.found[-1], flush=True)
        return code == 0

    def wait(self, process: subprocess.Popen) -> Optional[int]:
        """Its exit code, or None when the time is over.

        Meanwhile what it has found is packed: a machine may go at any moment.
        """
        while self.left() > 0:
            try:
                return process.wait(min(PACKED_EVERY, self.left()))
            except subprocess.TimeoutExpired:
                self.pack()
        return None

    def tests(self) -> None:
        workers = min(16, len(os.sched_getaffinity(0)))
        failures = self.logs / 'failures.txt'
        # one word: pytest would take an existing file for a test's
        self.call('tests', '-m', 'pytest', '-q', '-n', workers,
                  f'--failures={failures}', *shlex.split(self.args.pytest))
        self.found += [
            line
            for line in (self.logs / 'tests.log').read_text().splitlines()
            if ' passed' in line
        ]
        if failures.is_file():
            self.found += [
                f'FAILED {line[4:]}'
                for line in failures.read_text().splitlines()
                if line.startswith('=== ')
            ]

    def speed(self) -> None:
        folder = self.logs / 'speed'
        device = 'cpu' if self.args.tiny else 'cuda'
        rest = ['--tiny', '--rounds', 1] if self.args.tiny else [
            '--rounds', 5, '--steps', self.args.steps
        ]
        for row in self.args.rows:
            if self.call(f'speed-{row}', 'tools/benchmark/speed.py', row,
                         '--device', device, '--out', folder, *rest):
                found = json.loads((folder / f'{row}.json').read_text())
                self.found += [
                    f'  {one["title"]}: {one["value"]:.4g}, goal '
                    f'{one["goal"]}' for one in found['claims']
                ]

    def train(self) -> None:
        self.call('train', 'tools/benchmark/reproduce.py', self.args.suite,
                  '--jobs', self.args.jobs, '--minutes',
                  max(0,
                      self.left() - RESERVE) / 60, '--work-dir',
                  self.args.work_dir)
        log = self.logs / 'train.log'
        if not log.is_file():
            return
        self.found += log.read_text().splitlines()[-40:]
        self.trained()

    def trained(self) -> None:
        """The table of the suite, and its teacher once it is there."""
        from benchmarks.suite import SUITES, load
        name = Path(self.args.suite).stem
        runs = self.args.work_dir / name
        folder = runs if self.args.suite.endswith('.py') else SUITES.parent
        for path in folder.glob(f'{name}.*'):
            shutil.copy(path, self.logs)
        teacher = Path(load(self.args.suite).get('teacher', '')).stem
        for path in runs.glob(f'{teacher}-seed0-*/last_checkpoint'):
            half(
                Path(path.read_text().strip()),
                self.args.out / f'{teacher}.pth')

    def pack(self) -> None:
        """The summary, and all logs and results in one file."""
        (self.logs / 'summary.txt').write_text('\n'.join(self.found))
        shutil.copy(self.logs / 'summary.txt', self.args.out)
        work_dir, name = self.args.work_dir, Path(self.args.suite).stem
        unfinished = self.logs.with_suffix('.tar.gz')
        with tarfile.open(unfinished, 'w:gz') as tar:
            for folder in (self.logs, work_dir / name):
                for path in sorted(folder.rglob('*')):
                    if path.suffix in ('.log', '.json', '.md', '.png', '.txt'):
                        tar.add(path, path.relative_to(work_dir))
        shutil.move(unfinished, self.args.out / 'results.tar.gz')


def half(checkpoint: Path, path: Path) -> None:
    """Keep the weights of a checkpoint, as float16."""
    import torch

    import sdd_mm  # noqa: F401
    state = torch.load(checkpoint, map_location='cpu')['state_dict']
    torch.save(
        dict(
            state_dict={
                key: value.half() if value.is_floating_point() else value
                for key, value in state.items()
            }), path)


def main() -> int:
    parts = Parts(parse_args())
    for name in parts.args.parts:
        getattr(parts, name)()
    parts.pack()
    print('\n'.join(['', *parts.found]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
