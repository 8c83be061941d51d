# Copyright (c) sdd_mm contributors. All rights reserved.
"""Rows of a table against one of them, seed by seed."""
import statistics
from pathlib import Path
from typing import Dict, List, NamedTuple

from matplotlib import pyplot as plt

from .figures import COLORS


class Difference(NamedTuple):
    """The mean difference of a row, and the ends of its 95 % interval."""
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})'


def differences(rows: List[dict], reference: str) -> Dict[str, Difference]:
    """Of every row that shares at least two seeds with the reference.

    The interval is Student's, of the differences of equal seeds.

    Args:
        rows (list[dict]): Rows of a result, with ``title`` and ``runs``.
        reference (str): The title of the row to compare with.

    Returns:
        dict[str, Difference]: By title, in points of the last epoch.
    """
    from scipy.stats import t
    last = {
        row['title']: {
            run['seed']: run['last']
            for run in row['runs']
        }
        for row in rows
    }
    base, found = last.pop(reference), {}
    for title, row in last.items():
        points = [row[seed] - base[seed] for seed in row if seed in base]
        if len(points) < 2:
            continue
        mean, count = statistics.mean(points), len(points)
        half = t.ppf(0.975, count - 1) * statistics.stdev(points) / count**0.5
        found[title] = Difference(mean, mean - half, mean + half)
    return found


def draw(rows: List[dict], reference: str, path: Path) -> None:
    """Draw the differences, one line a row."""
    found = differences(rows, reference)
    figure, axes = plt.subplots(
        figsize=(7, 1.2 + 0.32 * len(found)), layout='constrained')
    for place, one in enumerate(found.values()):
        axes.plot([one.low, one.high], [place] * 2, color=COLORS[0], lw=2)
        axes.plot(one.mean, place, 'o', color=COLORS[0])
    axes.axvline(0, color='0.5', lw=1)
    axes.set_yticks(range(len(found)), found)
    axes.invert_yaxis()
    axes.set_xlabel('points of top-1: mean of the seeds, 95 % interval')
    figure.suptitle(f'Against "{reference}"', fontsize=11)
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='x', alpha=0.25, lw=0.5)
    figure.savefig(path, dpi=150)
    plt.close(figure)
