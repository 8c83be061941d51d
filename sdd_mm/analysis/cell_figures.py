# Copyright (c) sdd_mm contributors. All rights reserved.
"""Figures of images and the predictions for their cells.

Each function returns its figure and the drawn numbers.
"""
from dataclasses import replace
from typing import List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from .drawing import (LEGENDS, FigureAndNumbers, column_width, draw_cells,
                      height_ratio, percent, plt, show_image, wrap)
from .outputs import Outputs


def explain(image: np.ndarray,
            outputs: Outputs,
            names: Sequence[str],
            label: Optional[int] = None,
            consistency: str = 'label') -> FigureAndNumbers:
    """A network's predictions for every cell of one image.

    Args:
        image (np.ndarray): Bytes, (H, W, 3), RGB.
        outputs (Outputs): The network's outputs for it.
        names (Sequence[str]): The names of the classes.
        label (int, optional): Its class. Defaults to None, unknown: then
            cells are compared by class, whatever ``consistency`` is.
        consistency (str): As in ``ScaleDecoupledLoss``. Defaults to 'label'.
    """
    if label is None:
        consistency = 'class'
    else:
        outputs = replace(outputs, labels=torch.tensor([label]))
    verdict = names[outputs.classes[0]]
    columns = 1 + len(outputs.scales)
    inches = column_width([image], 2.9)
    sure = percent(outputs.confidence[0])
    title = wrap(f'prediction: {verdict} ({sure})', 34)
    if label is not None:
        title += '\n' + wrap(f'label: {names[label]}', 34)
    figure, grid = plt.subplots(
        1,
        columns,
        figsize=(inches * columns, inches * height_ratio([image]) + 0.4 +
                 0.18 * len(title.split('\n'))),
        layout='constrained')
    show_image(grid[0], image, title)
    cells, consistent, shares = {}, {}, {}
    for axes, scale, same, share in zip(
            grid[1:], outputs.scales,
            outputs.split(outputs.consistent(consistency)),
            outputs.split(outputs.shares)):
        classes = outputs.at(scale)[:, 0].tolist()
        cells[scale] = [names[index] for index in classes]
        consistent[scale] = same[:, 0].tolist()
        shares[scale] = share[:, 0].tolist()
        draw_cells(axes, image, classes, consistent[scale], names, inches,
                   f'scale {scale}', shares[scale])
    figure.supxlabel(LEGENDS[consistency], fontsize=9)
    return figure, dict(
        verdict=verdict,
        confidence=outputs.confidence[0].item(),
        label=None if label is None else names[label],
        cells=cells,
        shares=shares,
        consistent=consistent)


def samples(title: str, images: List[np.ndarray], chosen: Tensor,
            teacher: Outputs, wrong: Outputs, names: Sequence[str],
            consistency: str) -> FigureAndNumbers:
    """Some images, each with the teacher's predictions for its smallest cells.

    Args:
        title (str): The title.
        images (list[np.ndarray]): The chosen images, bytes, (H, W, 3), RGB.
        chosen (Tensor): Their positions among the n images, (c,).
        teacher (Outputs): The teacher's outputs for the n images.
        wrong (Outputs): The outputs of the network that is wrong.
        names (Sequence[str]): The names of the classes.
        consistency (str): As in ``ScaleDecoupledLoss``.
    """
    scale = max(teacher.scales)
    same = teacher.split(
        teacher.consistent(consistency))[teacher.scales.index(scale)]
    inches = column_width(images, 2.1) if images else 2.1
    figure, grid = plt.subplots(
        2,
        max(1, len(chosen)),
        figsize=(inches * max(3, len(chosen)) + 0.4,
                 2 * inches * height_ratio(images) + 2),
        layout='constrained',
        squeeze=False)
    found, titles = [], []
    for column, index in enumerate(chosen.tolist()):
        show_image(grid[0, column], images[column])
        label, verdict = (
            names[one[index]] for one in (teacher.labels, wrong.classes))
        sure = percent(wrong.confidence[index])
        titles.append('\n'.join(
            (wrap(f'{label},', 20), wrap(f'not {verdict} ({sure})', 20))))
        classes = teacher.at(scale)[:, index].tolist()
        consistent = same[:, index].tolist()
        draw_cells(grid[1, column], images[column], classes, consistent, names,
                   inches)
        found.append(
            dict(
                image=index,
                label=names[teacher.labels[index]],
                wrong=names[wrong.classes[index]],
                confidence=wrong.confidence[index].item(),
                cells=[names[one] for one in classes],
                consistent=consistent))
    # the largest size with which the longest line fits into a column
    longest = max(
        [1, *(len(line) for one in titles for line in one.split('\n'))])
    for axes, one in zip(grid[0], titles):
        axes.set_title(one, fontsize=min(13, 105 * inches / longest))
    if not titles:
        grid[0, 0].text(0.5, 0.5, 'no such images', ha='center')
        for axes in grid[:, 0]:
            axes.set_axis_off()
    figure.suptitle(title, fontsize=15)
    figure.supxlabel(LEGENDS[consistency], fontsize=13)
    return figure, dict(scale=scale, samples=found)


def choose_misclassified(teacher: Outputs, count: int) -> Tensor:
    """Images that the teacher gets wrong, with the most cells right.

    Returns:
        Tensor: Positions of at most ``count`` images.
    """
    share = (teacher.cells == teacher.labels).float().mean(dim=0)
    share[teacher.right] = -1
    best = share.argsort(descending=True)[:count]
    return best[share[best] > 0]


def choose_won(student: Outputs, other: Outputs, teacher: Outputs,
               count: int) -> Tensor:
    """Images that one student gets right and another one wrong.

    Those with the most cells on which the teacher contradicts its own
    prediction for the image come first.

    Returns:
        Tensor: Positions of at most ``count`` images.
    """
    won = student.right & ~other.right
    divided = (teacher.cells != teacher.classes).float().mean(dim=0)
    divided[~won] = -1
    best = divided.argsort(descending=True)[:count]
    return best[divided[best] >= 0]
