# Copyright (c) sdd_mm contributors. All rights reserved.
"""Kill a run at random moments, resume it, and compare what comes out.

    python tests/helpers/kills.py 50    # kills
"""
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[:3])
import sdd_mm  # noqa: E402,F401  isort: skip
import torch  # noqa: E402
from test_runtime import test_exact_resume as resume  # noqa: E402

from sdd_mm.runtime.checkpoints import newest_checkpoint  # noqa: E402

CASES = (dict(), dict(in_memory=True), dict(by_epoch=False),
         dict(in_memory=True, cache_in_files=True), dict(method='crd'),
         dict(method='mgd'), dict(method='sskd'))


def train(work_dir: Path, case: dict) -> None:
    """One attempt, in a process of its own."""
    os.makedirs(work_dir, exist_ok=True)
    log = os.open(work_dir / 'output.txt', os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        cfg = resume.config(work_dir, **case)
        cfg['load_from'] = newest_checkpoint(work_dir)
        cfg['resume'] = cfg['load_from'] is not None
        cfg['experiment_name'] = f'kills_{os.getpid()}'
        resume.build(cfg).train()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def attempt(work_dir: Path,
            case: dict,
            deadline: float = float('inf'),
            saving: bool = False) -> bool:
    """Train until the deadline, or until it saves; True if it ended first."""
    child = os.fork()
    if child == 0:
        train(work_dir, case)
    start = time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if status != 0:
                raise RuntimeError((work_dir / 'output.txt').read_text())
            return True
        late = time.monotonic() - start > deadline
        if late or (saving and any(work_dir.glob('.*.part'))):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.0005)


def main(kills: int, seed: int = 0) -> dict:
    """Kill at least so often.

    Returns:
        dict: Kills, how many of them came while a checkpoint was written,
        and runs that came to their end and were compared.
    """
    rng = random.Random(seed)
    seen = dict(kills=0, saving=0, runs=0)
    with tempfile.TemporaryDirectory() as root:
        wholes = []
        for number, case in enumerate(CASES):
            whole = Path(root, f'whole_{number}')
            start = time.monotonic()
            attempt(whole, case)
            wholes.append((whole, time.monotonic() - start))
        while seen['kills'] < kills:
            number = seen['runs'] % len(CASES)
            (whole, length), case = wholes[number], CASES[number]
            work_dir = Path(root, f'run_{seen["runs"]}')
            while True:
                saving = rng.random() < 0.3
                deadline = float('inf') if saving else rng.uniform(0, length)
                if attempt(work_dir, case, deadline, saving):
                    break
                seen['kills'] += 1
                seen['saving'] += saving
            by_epoch = case.get('by_epoch', True)
            resume.same(
                resume.final(whole, by_epoch),
                resume.final(work_dir, by_epoch))
            assert resume.lines(whole) == resume.lines(work_dir)
            seen['runs'] += 1
            print(seen, flush=True)
    return seen


if __name__ == '__main__':
    torch.set_num_threads(1)
    main(int(sys.argv[1]))
