# Copyright (c) sdd_mm contributors. All rights reserved.
"""tools/train.py in processes of its own, and the accuracies that it logs."""
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Dict, Optional

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


class TimeLimit:
    """A context that asks all trainings to save and end when time is over.

    Args:
        minutes (float, optional): The time. Defaults to None: no limit.
    """

    def __init__(self, minutes: Optional[float] = None) -> None:
        self.end = None if minutes is None else time.time() + 60 * minutes

    def over(self) -> bool:
        """Whether no training may start any more."""
        return self.end is not None and time.time() >= self.end

    def __enter__(self) -> 'TimeLimit':
        self._timer = None
        if self.end is not None:
            self._timer = threading.Timer(max(0, self.end - time.time()), stop)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *args) -> None:
        if self._timer is not None:
            self._timer.cancel()


def train(config: Path,
          work_dir: Path,
          *arguments: str,
          title: str,
          end: str = '\r',
          gpus: int = 1) -> float:
    """Train a config, print its epochs, and return the seconds that it took.

    Raises:
        RunError: If the training fails.
    """
    start = time.time()
    command = [sys.executable]
    if gpus > 1:  # torchrun, which chooses a free port
        command += [
            '-m', 'torch.distributed.run', '--standalone',
            f'--nproc_per_node={gpus}'
        ]
        arguments += '--launcher', 'pytorch'
    command += [
        ROOT / 'tools' / 'train.py', config, '--work-dir', work_dir, *arguments
    ]
    paths = filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))
    environ = dict(
        os.environ, PYTHONUNBUFFERED='1', PYTHONPATH=os.pathsep.join(paths))
    tail = deque(maxlen=30)
    with subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ) as process:
        RUNNING.add(process)
        try:
            for line in process.stdout:
                tail.append(line)
                epoch = EPOCH.search(line)
                if epoch:
                    line = (f'{title:14} epoch {epoch[1]:>2}, top-1 '
                            f'{float(epoch[2]):5.2f} %, '
                            f'{time.time() - start:3.0f} s')
                    print(line, end=end, flush=True)
        except BaseException:  # Ctrl-C: leave no training behind
            process.terminate()
            process.wait()
            raise
        finally:
            RUNNING.discard(process)
            if end != '\n':
                print()
    if process.returncode:
        raise RunError(f'{"".join(tail)}{title}: training failed with exit '
                       f'code {process.returncode}, see {work_dir}')
    return time.time() - start


def accuracies(work_dir: Path) -> Dict[int, float]:
    """Top-1 accuracy (%) by epoch, over all attempts of a run."""
    from sdd_mm.analysis.report import logged
    return dict(zip(*logged(work_dir, METRIC).get('', ((), ()))))
