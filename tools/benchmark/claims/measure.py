# Copyright (c) sdd_mm contributors. All rights reserved.
"""Timing: interleaved rounds, medians, their ratios, and the facts."""
import os
import platform
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional

import torch

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Times:
    """Seconds a call, one number a round.

    Args:
        wall (list[float]): What passes.
        processor (list[float]): What this process takes of its processors:
            not what others take meanwhile, and nothing of a GPU.
    """
    wall: List[float] = field(default_factory=list)
    processor: List[float] = field(default_factory=list)

    def __sub__(self, other: 'Times') -> 'Times':
        return Times([a - b for a, b in zip(self.wall, other.wall)],
                     [a - b for a, b in zip(self.processor, other.processor)])


def interleave(cases: Dict[str, Callable[[], None]],
               rounds: int,
               calls: int = 1,
               warmup: int = 1) -> Dict[str, Times]:
    """Time cases in turn: A, B, C, A, B, C, ...

    A machine that becomes slower or faster does so for all of them. Every
    other round goes backwards, so that none always follows the same one.

    Args:
        cases (dict[str, Callable]): What to time, by name.
        rounds (int): Number of rounds.
        calls (int): Calls of a case in a round. Defaults to 1.
        warmup (int): Untimed calls of every case before. Defaults to 1.

    Returns:
        dict[str, Times]: Seconds a call.
    """
    for case in cases.values():
        for _ in range(warmup):
            case()
    found = {name: Times() for name in cases}
    for number in range(rounds):
        order = list(cases) if number % 2 == 0 else list(cases)[::-1]
        for name in order:
            wait()
            start = time.perf_counter(), time.process_time()
            for _ in range(calls):
                cases[name]()
            wait()
            end = time.perf_counter(), time.process_time()
            wall, processor = ((b - a) / calls for a, b in zip(start, end))
            found[name].wall.append(wall)
            found[name].processor.append(processor)
    return found


def wait() -> None:
    """Let a GPU finish what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(above: Times, below: Times) -> Dict[str, Optional[float]]:
    """Ratio of the medians, and the spread of the rounds' own ratios."""
    rounds = [a / b for a, b in zip(above.wall, below.wall, strict=True)]

    def medians(times: str) -> float:
        return statistics.median(getattr(above, times)) / statistics.median(
            getattr(below, times))

    return dict(
        value=medians('wall'),
        low=min(rounds),
        high=max(rounds),
        processor=None if torch.cuda.is_available() else medians('processor'))


def claim(title: str,
          goal: Optional[float],
          value: float,
          low: Optional[float] = None,
          high: Optional[float] = None,
          processor: Optional[float] = None,
          unit: str = 'x') -> dict:
    """A measured number beside what it is to be at most.

    Args:
        title (str): What was measured.
        goal (float, optional): The largest number that keeps the claim; None
            if it is reported and not judged.
        value (float): The number.
        low (float, optional): Smallest of the rounds. Defaults to None.
        high (float, optional): Largest of the rounds. Defaults to None.
        processor (float, optional): The same number of processor time, beside
            wall time. It is not judged. Defaults to None.
        unit (str): Its unit. Defaults to 'x', a ratio.
    """
    return dict(
        title=title,
        value=value,
        goal=goal,
        low=low,
        high=high,
        processor=processor,
        unit=unit,
        met=None if goal is None else bool(value <= goal))


@dataclass
class Result:
    """What one row measured.

    Args:
        row (str): Its name.
        says (str): The claim in a sentence.
        claims (list[dict]): See :func:`claim`.
        samples (dict): What they were computed from.
        notes (list[str]): What to know about them.
    """
    row: str
    says: str
    claims: List[dict] = field(default_factory=list)
    samples: dict = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    def as_dict(self, options) -> dict:
        """Everything, with the facts of the measurement."""
        return dict(
            row=self.row,
            says=self.says,
            device=options.device,
            rounds=options.rounds,
            tiny=options.tiny,
            claims=self.claims,
            notes=self.notes,
            environment=environment(),
            samples=as_json(self.samples))


def as_json(samples):
    """With numbers, lists and dictionaries only."""
    if isinstance(samples, Times):
        return asdict(samples)
    if isinstance(samples, dict):
        return {name: as_json(value) for name, value in samples.items()}
    return samples


def environment() -> dict:
    """Hardware and versions."""
    import mmengine
    import mmpretrain
    import mmrazor
    gpu = torch.cuda.is_available()
    return dict(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if gpu else None,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if gpu else None,
        mmengine=mmengine.__version__,
        mmpretrain=mmpretrain.__version__,
        mmrazor=mmrazor.__version__,
        commit=_commit(),
        load=round(os.getloadavg()[0], 1))


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [
        line.split(':')[1].strip() for line in lines
        if line.startswith('model name')
    ]
    return names[0] if names else platform.machine()


def _commit() -> Optional[str]:
    """The commit of the checkout, with a + where files differ from it."""
    try:
        found = subprocess.run(
            ['git', 'describe', '--always', '--dirty=+', '--abbrev=10'],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
