# Copyright (c) sdd_mm contributors. All rights reserved.
"""Figures of whole data sets and whole trainings.

Each function returns its figure and the drawn numbers.
"""
from itertools import cycle
from typing import Dict, Sequence, Tuple

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..engine.hooks.sdd_report_hook import CASES as LOGGED_CASES
from .drawing import (COMPLEMENTARY, CONSISTENT, NETWORKS, FigureAndNumbers,
                      plt, wrap)
from .outputs import Outputs

CASES = dict(
    zip(LOGGED_CASES, ('image right, cell right', 'image right, cell wrong',
                       'image wrong, cell right', 'image wrong, cell wrong')))
# cells that are as right as their image are blue, others orange
CASE_COLORS = (CONSISTENT, COMPLEMENTARY, '#D55E00', '#56B4E9')
DARK = (CONSISTENT, '#D55E00')
FEW, DRAWN_CLASSES = 10, 10
"""Least number of images of a t-SNE, and how many classes it shows."""
Lines = Dict[str, Tuple[list, list]]
"""Steps and values by name."""


def varies(values: Tensor) -> bool:
    """Whether the outputs of a network, (n, C), are finite and differ."""
    return len(values) > 1 and bool(values.isfinite().all()) and bool(
        (values.max(dim=0).values > values.min(dim=0).values).any())


def correlations(teacher: Outputs, students: Dict[str, Outputs],
                 names: Sequence[str]) -> FigureAndNumbers:
    """Differences of class correlations, student and teacher (Figure 3).

    The correlation of the classes' logits over the images; the absolute
    difference.

    Args:
        teacher (Outputs): The teacher's outputs.
        students (dict[str, Outputs]): The students' outputs by name.
        names (Sequence[str]): The names of the classes.
    """
    wanted = _correlation(teacher.logits)
    found = {
        name: (_correlation(outputs.logits) - wanted).abs()
        for name, outputs in students.items()
    }
    top = max(difference.max().item() for difference in found.values())
    figure, grid = plt.subplots(
        1,
        len(found),
        figsize=(4.4 * len(found) + 0.8, 4.4),
        layout='constrained',
        squeeze=False)
    for axes, (name, difference) in zip(grid[0], found.items()):
        picture = axes.imshow(
            difference.numpy(), vmin=0, vmax=top, cmap='cividis')
        axes.set(
            title=f'{wrap(name, 30)}\nmean {difference.mean():.3f}',
            xlabel='class',
            ylabel='class')
        _name_classes(axes, names)
    figure.colorbar(
        picture, ax=grid[0].tolist(), label='|student - teacher|', shrink=0.85)
    figure.suptitle('Difference of class correlations, student and teacher')
    return figure, {
        name:
        dict(mean=difference.mean().item(), difference=difference.tolist())
        for name, difference in found.items()
    }


def _name_classes(axes, names: Sequence[str]) -> None:
    """Ticks for classes: their names, or numbers if there are many."""
    if len(names) > 15:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        return
    labels = [wrap(name, 24) for name in names]
    upright = max(map(len, labels)) < 3
    axes.set_xticks(
        range(len(names)),
        labels,
        rotation=0 if upright else 45,
        ha='center' if upright else 'right')
    axes.set_yticks(range(len(names)), labels)


def _correlation(logits: Tensor) -> Tensor:
    return torch.corrcoef(logits.T.double())


def tsne(students: Dict[str, Outputs],
         names: Sequence[str],
         most: int = 1000) -> FigureAndNumbers:
    """t-SNE of the students' features (Figure 5).

    Args:
        students (dict[str, Outputs]): The students' outputs by name.
        names (Sequence[str]): The names of the classes.
        most (int): Largest number of images. Defaults to 1000.
    """
    from sklearn.manifold import TSNE
    figure, grid = plt.subplots(
        1,
        len(students),
        figsize=(4.4 * len(students) + 1.2, 4.6),
        layout='constrained',
        squeeze=False)
    found, palette = {}, plt.get_cmap('viridis')
    for axes, (name, outputs) in zip(grid[0], students.items()):
        kept = (outputs.labels < DRAWN_CLASSES).nonzero()[:most, 0]
        features, labels = outputs.features[kept], outputs.labels[kept]
        perplexity = min(30, max(2, len(kept) // 4))
        places = TSNE(
            random_state=0, init='pca',
            perplexity=perplexity).fit_transform(features.numpy())
        found[name] = dict(places=places.tolist(), labels=labels.tolist())
        for label in labels.unique().tolist():
            axes.scatter(
                *places[labels.numpy() == label].T,
                s=7,
                color=palette(label / max(1, DRAWN_CLASSES - 1)),
                marker='osD^v'[label // 2 % 5],
                label=wrap(names[label], 26))
        axes.set(title=wrap(name, 30), xticks=[], yticks=[])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc='outside right center',
        fontsize=8,
        title='class',
        frameon=False,
        markerscale=2)
    figure.suptitle('t-SNE of the features before the classifier '
                    f'(perplexity {perplexity}, {len(kept)} images)')
    return figure, found


def cases(teacher: Outputs) -> FigureAndNumbers:
    """How often the teacher is right on cells and on their images.

    Args:
        teacher (Outputs): The teacher's outputs.
    """
    found = {}
    for scale in teacher.scales:
        cell = teacher.at(scale) == teacher.labels
        image = (teacher.compared == teacher.labels).expand(cell.shape)
        found[scale] = [
            case.float().mean().item()
            for case in (image & cell, image & ~cell, ~image & cell,
                         ~image & ~cell)
        ]
    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout='constrained')
    left = np.zeros(len(found))
    rows = np.arange(len(found))[::-1]
    for number, (case, color) in enumerate(zip(CASES.values(), CASE_COLORS)):
        shares = np.array([100 * values[number] for values in found.values()])
        axes.barh(
            rows, shares, left=left, color=color, label=case, edgecolor='w')
        for row, start, share in zip(rows, left, shares):
            if share >= 4:
                axes.text(
                    start + share / 2,
                    row,
                    f'{share:.0f}',
                    ha='center',
                    va='center',
                    color='white' if color in DARK else 'black')
        left += shares
    axes.set(
        yticks=rows,
        yticklabels=[f'scale {scale}' for scale in found],
        xlabel='share of cells (%)',
        xlim=(0, 100),
        title='The teacher\'s predictions for cells and whole images')
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    return figure, dict(cases=list(CASES.values()), shares=found)


def cases_over_training(logged: Lines) -> FigureAndNumbers:
    """The four cases at every log line, stacked.

    Args:
        logged (Lines): Steps and shares, by the names of ``SDDReportHook``.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout='constrained')
    steps = next(iter(logged.values()))[0]
    axes.stackplot(
        steps, [[100 * share for share in logged[name][1]] for name in CASES],
        labels=list(CASES.values()),
        colors=CASE_COLORS)
    axes.set(
        title='The teacher\'s predictions for the training batches',
        xlabel='iteration',
        ylabel='share of cells (%)',
        xlim=(steps[0], steps[-1]),
        ylim=(0, 100))
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    return figure, {
        case: dict(steps=steps, values=logged[name][1])
        for name, case in CASES.items()
    }


def curves(title: str,
           ylabel: str,
           series: Lines,
           xlabel: str = 'iteration',
           colors: Sequence[str] = NETWORKS) -> FigureAndNumbers:
    """Lines over training.

    Args:
        title (str): The title.
        ylabel (str): The quantity and its unit.
        series (Lines): Steps and values by name.
        xlabel (str): Unit of the steps. Defaults to 'iteration'.
        colors (Sequence[str]): Of the lines. Defaults to those of networks.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout='constrained')
    styles = cycle(('-', '--', '-.', ':'))  # so that equal lines show
    for (name, line), color, style in zip(series.items(), cycle(colors),
                                          styles):
        axes.plot(*line, color=color, label=name, lw=1.8, ls=style)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(alpha=0.25, lw=0.5)
    axes.legend(
        loc='upper left',
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        frameon=False,
        fontsize=9)
    return figure, {
        name: dict(steps=steps, values=values)
        for name, (steps, values) in series.items()
    }
