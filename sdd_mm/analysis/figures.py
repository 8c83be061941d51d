# Copyright (c) sdd_mm contributors. All rights reserved.
"""Figures of a trained run. Each returns what it draws, in numbers, too."""
import io
from dataclasses import replace
from functools import lru_cache
from itertools import cycle
from typing import Dict, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..engine.hooks.sdd_report_hook import CASES as LOGGED_CASES
from .outputs import Outputs

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import font_manager  # noqa: E402

# Okabe and Ito's colours, told apart by all readers
CONSISTENT, COMPLEMENTARY = '#0072B2', '#E69F00'
CELL_COLORS = {
    'label':
    'blue: right or wrong like the whole image (consistent), orange: '
    'otherwise (complementary)',
    'class':
    'blue: the class of the whole image (consistent), orange: another '
    '(complementary)'
}
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
          '#000000', '#999999', '#882255', '#F0E442')
CASES = dict(
    zip(LOGGED_CASES, ('image right, cell right', 'image right, cell wrong',
                       'image wrong, cell right', 'image wrong, cell wrong')))
CASE_COLORS = ('#0072B2', '#E69F00', '#56B4E9', '#999999')
HIGHEST = 3  # times as high as wide: images that fill their column
FEW, DRAWN_CLASSES = 10, 10
"""Least images of a t-SNE, and of how many classes, the first ones."""
Found = Tuple[Figure, dict]
plt.rcParams['text.parse_math'] = False  # a class may have a $ in its name
# of fonts for what matplotlib's own cannot write, those that are installed
FONTS = ('Noto Sans CJK SC', 'Noto Sans CJK JP', 'WenQuanYi Zen Hei',
         'Microsoft YaHei', 'PingFang SC', 'Arial Unicode MS')
plt.rcParams['font.family'] = [
    'DejaVu Sans',
    *(font for font in FONTS if font in font_manager.get_font_names())
]


def png(figure: Figure) -> bytes:
    """The file of a figure, as large as all that is written in it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, bbox_inches='tight', pad_inches=0.1)
    return buffer.getvalue()


def draw_cells(axes,
               image: np.ndarray,
               verdicts: Sequence[int],
               consistent: Sequence[bool],
               names: Sequence[str],
               title: str = '') -> None:
    """An image under a grid of verdicts.

    Args:
        axes (Axes): Where to draw.
        image (np.ndarray): (H, W, 3), RGB, from 0 to 255.
        verdicts (Sequence[int]): The classes of m x m cells, row by row.
        consistent (Sequence[bool]): Which of them are consistent.
        names (Sequence[str]): The names of the classes.
        title (str): The title. Defaults to ''.
    """
    scale = round(len(verdicts)**0.5)
    height, width = (size / image.shape[1] for size in image.shape[:2])
    axes.imshow(image, extent=(0, width, height, 0))
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    shown = [short(names[verdict], 40 // (scale + 1)) for verdict in verdicts]
    # as large as a cell lets the longest name be
    size = min(
        20 / scale**0.4, 110 * min(height, 1) / scale,
        170 * min(1, HIGHEST / height) / (scale * max(2, *map(len, shown))))
    for index, name in enumerate(shown):
        row, column = divmod(index, scale)
        color = CONSISTENT if consistent[index] else COMPLEMENTARY
        axes.add_patch(
            plt.Rectangle((column * width / scale, row * height / scale),
                          width / scale,
                          height / scale,
                          facecolor=(color, 0.45),
                          edgecolor='white',
                          linewidth=1))
        axes.text(
            (column + 0.5) * width / scale, (row + 0.5) * height / scale,
            name,
            ha='center',
            va='center',
            color='white',
            weight='bold',
            fontsize=size,
            path_effects=[withStroke(linewidth=1.5, foreground='black')])


def _ratio(images: Sequence[np.ndarray]) -> float:
    """How much higher than wide images are, the highest of them."""
    ratios = [image.shape[0] / image.shape[1] for image in images]
    return min(HIGHEST, max([0.3, *ratios]))


@lru_cache(maxsize=None)
def _drawable() -> frozenset:
    """The characters that the fonts have."""
    paths = map(font_manager.findfont, plt.rcParams['font.family'])
    return frozenset().union(*(font_manager.get_font(path).get_charmap()
                               for path in paths))


def short(name: str, most: int) -> str:
    """A name of at most so many characters that can be drawn."""
    name = ''.join(
        sign if ord(sign) in _drawable() else f'<{ord(sign):x}>'
        for sign in name)
    return name if len(name) <= most else f'{name[:most - 1]}…'


def explain(image: np.ndarray,
            outputs: Outputs,
            names: Sequence[str],
            label: Optional[int] = None,
            consistency: str = 'label') -> Found:
    """A network's verdict on every cell of one image.

    Args:
        image (np.ndarray): (H, W, 3), RGB, from 0 to 255.
        outputs (Outputs): What the network says of it.
        names (Sequence[str]): The names of the classes.
        label (int, optional): Its class. Defaults to None, not known: then
            classes are compared, whatever ``consistency`` says.
        consistency (str): As in ``ScaleDecoupledLoss``. Defaults to 'label'.
    """
    if label is None:
        consistency = 'class'
    else:
        outputs = replace(outputs, labels=torch.tensor([label]))
    verdict = names[outputs.classes[0]]
    consistent = outputs.split(outputs.consistent(consistency))
    figure, grid = plt.subplots(
        1,
        1 + len(outputs.scales),
        figsize=(2.9 * (1 + len(outputs.scales)), 2.8 * _ratio([image]) + 0.6),
        layout='constrained')
    grid[0].imshow(image)
    grid[0].set_axis_off()
    grid[0].set_title(
        f'verdict {short(verdict, 30)}' +
        ('' if label is None else f'\nlabel {short(names[label], 30)}'),
        fontsize=10)
    cells = {}
    for axes, scale, same in zip(grid[1:], outputs.scales, consistent):
        verdicts = outputs.at(scale)[:, 0].tolist()
        cells[scale] = [names[index] for index in verdicts]
        draw_cells(axes, image, verdicts, same[:, 0].tolist(), names,
                   f'scale {scale}')
    figure.supxlabel(CELL_COLORS[consistency], fontsize=9)
    return figure, dict(
        verdict=verdict,
        label=None if label is None else names[label],
        cells=cells,
        consistent={
            scale: same[:, 0].tolist()
            for scale, same in zip(outputs.scales, consistent)
        })


def samples(title: str, images: List[np.ndarray], chosen: Tensor,
            teacher: Outputs, wrong: Tensor, names: Sequence[str],
            consistency: str) -> Found:
    """Some images, each with the teacher's verdict on its smallest cells.

    Args:
        title (str): The title.
        images (list[np.ndarray]): The images, (H, W, 3), RGB.
        chosen (Tensor): Their places among all images.
        teacher (Outputs): What the teacher says of all images.
        wrong (Tensor): For all images, the verdict that is wrong, (n,).
        names (Sequence[str]): The names of the classes.
        consistency (str): As in ``ScaleDecoupledLoss``.
    """
    scale = max(teacher.scales)
    same = teacher.split(
        teacher.consistent(consistency))[teacher.scales.index(scale)]
    figure, grid = plt.subplots(
        2,
        max(1, len(chosen)),
        figsize=(2.1 * max(3, len(chosen)) + 0.4, 4 * _ratio(images) + 1.4),
        layout='constrained',
        squeeze=False)
    for column in range(grid.shape[1]):
        for axes in grid[:, column]:
            axes.set_axis_off()
    found, titles = [], []
    for column, index in enumerate(chosen.tolist()):
        grid[0, column].imshow(images[column])
        label, verdict = (
            short(names[one[index]], 24) for one in (teacher.labels, wrong))
        titles.append(f'{label},\nnot {verdict}')
        verdicts = teacher.at(scale)[:, index].tolist()
        consistent = same[:, index].tolist()
        draw_cells(grid[1, column], images[column], verdicts, consistent,
                   names)
        found.append(
            dict(
                image=index,
                label=names[teacher.labels[index]],
                wrong=names[wrong[index]],
                cells=[names[verdict] for verdict in verdicts],
                consistent=consistent))
    # as large as a column lets the longest name be
    longest = max(
        [1, *(len(line) for one in titles for line in one.split('\n'))])
    for axes, one in zip(grid[0], titles):
        axes.set_title(one, fontsize=min(13, 220 / longest))
    if not len(chosen):
        grid[0, 0].text(0.5, 0.5, 'there are none', ha='center')
    figure.suptitle(title, fontsize=15)
    figure.supxlabel(CELL_COLORS[consistency], fontsize=13)
    return figure, dict(scale=scale, samples=found)


def choose_misclassified(teacher: Outputs, count: int) -> Tensor:
    """Images that the teacher gets wrong, and most of its cells right."""
    share = (teacher.cells == teacher.labels).float().mean(dim=0)
    share[teacher.right] = -1
    best = share.argsort(descending=True)[:count]
    return best[share[best] > 0]


def choose_won(student: Outputs, other: Outputs, teacher: Outputs,
               count: int) -> Tensor:
    """Images that one student gets right and another wrong.

    First those on whose cells the teacher is most divided.
    """
    won = student.right & ~other.right
    divided = (teacher.cells != teacher.classes).float().mean(dim=0)
    divided[~won] = -1
    best = divided.argsort(descending=True)[:count]
    return best[divided[best] >= 0]


def vary(values: Tensor) -> bool:
    """Whether images differ in what a network says of them, (n, C)."""
    return len(values) > 1 and bool(values.isfinite().all()) and bool(
        (values.max(dim=0).values > values.min(dim=0).values).any())


def correlations(teacher: Outputs, students: Dict[str, Outputs],
                 names: Sequence[str]) -> Found:
    """How far the students' class correlations are from the teacher's.

    The paper's Figure 3: correlation of the classes' logits over the images,
    student minus teacher, absolute.
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
            title=f'{short(name, 30)}\nmean {difference.mean():.3f}',
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
    """Ticks for classes: their names, or their numbers if they are many."""
    if len(names) > 15:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        return
    labels = [short(name, 12) for name in names]
    upright = max(map(len, labels)) < 3
    axes.set_xticks(
        range(len(names)),
        labels,
        rotation=0 if upright else 45,
        ha='center' if upright else 'right')
    axes.set_yticks(range(len(names)), labels)


def _correlation(logits: Tensor) -> Tensor:
    return torch.corrcoef(logits.T.double())


def neighbours(students: Dict[str, Outputs],
               names: Sequence[str],
               most: int = 1000,
               classes: int = DRAWN_CLASSES) -> Found:
    """t-SNE of the students' features: the paper's Figure 5."""
    from sklearn.manifold import TSNE
    figure, grid = plt.subplots(
        1,
        len(students),
        figsize=(4.4 * len(students) + 1.2, 4.6),
        layout='constrained',
        squeeze=False)
    found = {}
    for axes, (name, outputs) in zip(grid[0], students.items()):
        kept = (outputs.labels < classes).nonzero()[:most, 0]
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
                color=COLORS[label % len(COLORS)],
                marker='osD^v'[label // 2 % 5],
                label=short(names[label], 20))
        axes.set(title=short(name, 30), xticks=[], yticks=[])
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


def cases(teacher: Outputs) -> Found:
    """How often the teacher's verdicts on cells and on images agree."""
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
                    color='black' if color in ('#E69F00', '#56B4E9',
                                               '#999999') else 'white')
        left += shares
    axes.set(
        yticks=rows,
        yticklabels=[f'scale {scale}' for scale in found],
        xlabel='share of cells (%)',
        xlim=(0, 100),
        title='The teacher\'s verdicts on cells and on whole images')
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    return figure, dict(cases=list(CASES.values()), shares=found)


def cases_over_training(logged: Dict[str, Tuple[list, list]]) -> Found:
    """The four cases at every log line, one upon the other.

    Args:
        logged (dict): Steps and shares, by the names of ``SDDReportHook``.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout='constrained')
    steps = next(iter(logged.values()))[0]
    axes.stackplot(
        steps, [[100 * share for share in logged[name][1]] for name in CASES],
        labels=list(CASES.values()),
        colors=CASE_COLORS)
    axes.set(
        title='The teacher\'s verdicts on the batches of the training',
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
           series: Dict[str, Tuple[list, list]],
           xlabel: str = 'iteration') -> Found:
    """Lines over training.

    Args:
        title (str): The title.
        ylabel (str): What is drawn, with its unit.
        series (dict): Steps and values, by name.
        xlabel (str): What the steps are. Defaults to 'iteration'.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout='constrained')
    styles = cycle(('-', '--', '-.', ':'))  # equal lines are seen, too
    for (name, line), color, style in zip(series.items(), cycle(COLORS),
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
