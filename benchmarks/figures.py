# Copyright (c) sdd_mm contributors. All rights reserved.
"""Accuracy over epochs."""
import statistics
import textwrap
from itertools import product
from pathlib import Path
from typing import Dict, List, Tuple

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.transforms import ScaledTranslation

matplotlib.use('Agg')
# Okabe and Ito's colors, which all readers can tell apart
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')


def draw(lines: Dict[str, Tuple[List[dict], List[str]]], path: Path,
         title: str) -> None:
    """Draw the mean of the seeds and their range.

    ``lines`` has, by name, the accuracy by epoch of every seed and the panels
    of the line; one without panels is drawn in all of them, in gray.
    """
    panels = list(
        dict.fromkeys(panel for _, own in lines.values()
                      for panel in own)) or ['']
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure, grid = plt.subplots(
        down,
        across,
        figsize=(4.2 * across + 0.6, 4.2 * down + 0.5),
        layout='constrained',
        sharex=True,
        sharey=True,
        squeeze=False)
    for axes in grid.flat[len(panels):]:
        axes.set_visible(False)
    for number, (panel, axes) in enumerate(zip(panels, grid.flat)):
        looks = product(('-', '--', ':'), COLORS)
        for name, (runs, own) in lines.items():
            if not own and panels != ['']:
                _line(axes, runs, name, '-', '0.5')
            elif not own or panel in own:
                _line(axes, runs, name, *next(looks))
        axes.set(
            title=panel,
            xlabel='epoch',
            ylabel='' if number % across else 'top-1 (%)')
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(alpha=0.25, lw=0.5)
        axes.tick_params(labelbottom=True)
        axes.legend(
            loc='upper left',
            bbox_to_anchor=(0, 0),
            bbox_transform=axes.transAxes +
            ScaledTranslation(0, -0.5, figure.dpi_scale_trans),
            frameon=False,
            fontsize=9)
    text = (f'{title}: mean and range of the seeds; in front of a name the '
            'accuracy after the last epoch')
    figure.suptitle(textwrap.fill(text, 45 * across), fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _line(axes, runs: List[dict], name: str, style: str, color: str) -> None:
    epochs = sorted(set.intersection(*map(set, runs)))
    columns = [[run[epoch] for run in runs] for epoch in epochs]
    mean = list(map(statistics.mean, columns))
    axes.plot(
        epochs, mean, style, color=color, label=f'{mean[-1]:.1f}  {name}')
    if len(runs) > 1:
        low, high = (list(map(end, columns)) for end in (min, max))
        axes.fill_between(epochs, low, high, color=color, alpha=0.15, lw=0)
