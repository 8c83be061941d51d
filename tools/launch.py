# Copyright (c) sdd_mm contributors. All rights reserved.
"""tools/train.py in a process of its own, and what it measured."""
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parents[1]
METRIC = 'accuracy/top1'
EPOCH = re.compile(rf'Epoch\(val\) +\[ *(\d+)\].*{METRIC}: (\S+)')

RUNNING = set()


class RunError(RuntimeError):
    """A run that cannot start, or that failed."""


def stop() -> None:
    """Ask all trainings of this process to save and end."""
    for process in tuple(RUNNING):
        process.terminate()


def train(config: Path,
          work_dir: Path,
          *arguments: str,
          title: str,
          pass_fds: tuple = (),
          every: float = 0) -> float:
    """Train a config, showing its epochs.

    Args:
        config (Path): The config file.
        work_dir (Path): Its work directory.
        *arguments (str): Further arguments of tools/train.py.
        title (str): What the line begins with.
        pass_fds (tuple[int]): File descriptors that the process inherits.
            Defaults to ().
        every (float): Seconds between two lines of progress. Defaults to 0:
            one line that changes with every epoch.

    Returns:
        float: Seconds that it took.

    Raises:
        RunError: If it failed.
    """
    start = time.time()
    command = [
        sys.executable,
        str(ROOT / 'tools' / 'train.py'),
        str(config), '--work-dir',
        str(work_dir), *arguments
    ]
    tail = deque(maxlen=30)
    with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
            env=dict(os.environ, PYTHONUNBUFFERED='1')) as process:
        RUNNING.add(process)
        told = start
        try:
            for line in process.stdout:
                tail.append(line)
                epoch = EPOCH.search(line)
                if epoch and time.time() >= told + every:
                    told = time.time()
                    print(
                        f'{"" if every else chr(13)}{title:14} epoch '
                        f'{epoch[1]:>2}, top-1 {float(epoch[2]):5.2f} %, '
                        f'{told - start:3.0f} s',
                        end='\n' if every else '',
                        flush=True)
        except BaseException:  # Ctrl-C: leave no training behind
            process.terminate()
            process.wait()
            raise
        finally:
            RUNNING.discard(process)
            if not every:
                print()
    if process.returncode:
        raise RunError(f'{"".join(tail)}{title}: training failed with exit '
                       f'code {process.returncode}, see {work_dir}')
    return time.time() - start


def curve(work_dir: Path) -> Dict[int, float]:
    """Top-1 accuracy (%) after every epoch, over all attempts of a run."""
    accuracy = {}
    for scalars in sorted(work_dir.glob('*/vis_data/scalars.json')):
        # a killed process may leave half a line
        lines = scalars.read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith('\n')]
        found = {row['step']: row[METRIC] for row in rows if METRIC in row}
        # an attempt replaces what it does again
        first = min(found, default=float('inf'))
        accuracy = {
            epoch: value
            for epoch, value in accuracy.items() if epoch < first
        }
        accuracy.update(found)
    return accuracy
