# Copyright (c) sdd_mm contributors. All rights reserved.
"""Timing in turns, medians and their ratios."""
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Callable, Dict, List, Optional

import torch

from ..environment import environment


@dataclass
class Times:
    """Seconds per call, one number per round.

    Args:
        wall (list[float]): Wall time.
        processor (list[float]): Processor time of this process, which leaves
            out other processes and the GPU.
    """
    wall: List[float] = field(default_factory=list)
    processor: List[float] = field(default_factory=list)

    def __sub__(self, other: 'Times') -> 'Times':
        return Times(*([a - b for a, b in zip(mine, theirs)]
                       for mine, theirs in ((self.wall, other.wall),
                                            (self.processor,
                                             other.processor))))


def interleave(cases: Dict[str, Callable[[], None]],
               rounds: int,
               calls: int = 1,
               warmup: int = 1) -> Dict[str, Times]:
    """Time cases in turns: A, B, C, C, B, A, A, B, C, ...

    A machine that becomes slower or faster does so for all of them.

    Args:
        cases (dict[str, Callable]): What to time, by name.
        rounds (int): Number of rounds.
        calls (int): Calls of a case in a round. Defaults to 1.
        warmup (int): Untimed calls of every case before. Defaults to 1.

    Returns:
        dict[str, Times]: Seconds per call.
    """
    for case in cases.values():
        for _ in range(warmup):
            case()
    found = {name: Times() for name in cases}
    for number in range(rounds):
        for name in list(cases)[::-1 if number % 2 else 1]:
            wait()
            start = time.perf_counter(), time.process_time()
            for _ in range(calls):
                cases[name]()
            wait()
            end = time.perf_counter(), time.process_time()
            found[name].wall.append((end[0] - start[0]) / calls)
            found[name].processor.append((end[1] - start[1]) / calls)
    return found


def wait() -> None:
    """Let a GPU finish what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(above: Times, below: Times) -> Dict[str, Optional[float]]:
    """Ratio of the medians, and the range of the rounds' own ratios."""
    rounds = [a / b for a, b in zip(above.wall, below.wall, strict=True)]
    wall, processor = (statistics.median(a) / statistics.median(b)
                       for a, b in ((above.wall, below.wall),
                                    (above.processor, below.processor)))
    return dict(
        value=wall,
        low=min(rounds),
        high=max(rounds),
        processor=None if torch.cuda.is_available() else processor)


@dataclass
class Result:
    """What one row measured.

    Args:
        row (str): Its name.
        says (str): The claim in a sentence.
        claims (list[dict]): Measured numbers, see :meth:`claim`.
        samples (dict): What they were computed from.
        notes (list[str]): Sentences about them.
        table (list[list[str]]): A table for the page, its head first.
    """
    row: str
    says: str
    claims: List[dict] = field(default_factory=list)
    samples: dict = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    table: List[List[str]] = field(default_factory=list)

    def claim(self, title: str, goal: Optional[float], value: float, **facts):
        """Note a number beside the largest one that keeps the claim.

        ``facts`` are ``unit``, ``low``, ``high`` and ``processor``. A goal of
        None is not judged, nor is processor time.
        """
        met = None if goal is None else bool(value <= goal)
        unknown = dict(low=None, high=None, processor=None, unit='x')
        self.claims.append({
            **dict(title=title, value=value, goal=goal),
            **unknown,
            **facts, 'met': met
        })

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
            table=self.table,
            environment=environment(),
            samples=as_json(self.samples))


def as_json(samples):
    """With numbers, lists and dictionaries only."""
    if isinstance(samples, Times):
        return asdict(samples)
    if isinstance(samples, dict):
        return {name: as_json(value) for name, value in samples.items()}
    return samples
