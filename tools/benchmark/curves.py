# Copyright (c) sdd_mm contributors. All rights reserved.
"""The curves of a suite."""
import statistics
from itertools import product
from pathlib import Path

import matplotlib
from matplotlib.transforms import ScaledTranslation
from suite import Rows

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

# Okabe and Ito's colours, told apart by all readers; rows without a panel
# are drawn in grey in all of them
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')


def draw(rows: Rows, path: Path, title: str) -> None:
    """Accuracy over epochs: the mean of the seeds, and their range.

    Args:
        rows (dict[str, Row]): The rows by their titles.
        path (Path): The picture.
        title (str): Its title.
    """
    done = {title: row for title, row in rows.items() if row.done()}
    panels = list(
        dict.fromkeys(panel for row in done.values()
                      for panel in row.panels)) or ['']
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
    for number, axes in enumerate(grid.flat):
        if number >= len(panels):
            axes.set_visible(False)
            continue
        looks = iter(product(('-', '--', ':'), COLORS))
        for name, row in done.items():
            if row.panels and panels[number] not in row.panels:
                continue
            everywhere = not row.panels and panels != ['']
            _line(axes, row, name,
                  *('-', '0.5') if everywhere else next(looks))
        axes.set(
            title=panels[number],
            xlabel='epoch',
            ylabel='' if number % across else 'top-1 (%)')
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(alpha=0.25, lw=0.5)
        axes.legend(
            loc='upper left',
            bbox_to_anchor=(0, 0),
            bbox_transform=axes.transAxes +
            ScaledTranslation(0, -0.5, figure.dpi_scale_trans),
            frameon=False,
            fontsize=9)
        axes.tick_params(labelbottom=True)
    figure.suptitle(f'{title}: mean of the seeds, from the smallest to the '
                    'largest; in front of a name the last epoch')
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _line(axes, row, name: str, style: str, color: str) -> None:
    runs = [run.accuracy() for run in row.done()]
    epochs = sorted(set.intersection(*map(set, runs)))
    columns = [[run[epoch] for run in runs] for epoch in epochs]
    mean = list(map(statistics.mean, columns))
    axes.plot(
        epochs, mean, style, color=color, label=f'{mean[-1]:.1f}  {name}')
    if len(runs) > 1:
        axes.fill_between(
            epochs,
            list(map(min, columns)),
            list(map(max, columns)),
            color=color,
            alpha=0.15,
            lw=0)
