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


class RunError(RuntimeError):
    """A run that cannot start, or that failed."""


def train(config: Path,
          work_dir: Path,
          *arguments: str,
          title: str,
          pass_fds: tuple = ()) -> float:
    """Train a config, showing its epochs in one line.

    Args:
        config (Path): The config file.
        work_dir (Path): Its work directory.
        *arguments (str): Further arguments of tools/train.py.
        title (str): What the line begins with.
        pass_fds (tuple[int]): File descriptors that the process inherits.
            Defaults to ().

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
        try:
            for line in process.stdout:
                tail.append(line)
                epoch = EPOCH.search(line)
                if epoch:
                    print(
                        f'\r{title:14} epoch {epoch[1]:>2}, top-1 '
                        f'{float(epoch[2]):5.2f} %, '
                        f'{time.time() - start:3.0f} s',
                        end='',
                        flush=True)
        except BaseException:  # Ctrl-C: leave no training behind
            process.terminate()
            process.wait()
            raise
        finally:
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
