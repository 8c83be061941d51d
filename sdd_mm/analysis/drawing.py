# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the figures share: fonts, colors, and an image under its cells."""
import io
import textwrap
from collections import Counter
from functools import lru_cache
from typing import List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import font_manager  # noqa: E402

# Okabe and Ito's colors, which color-blind readers can tell apart:
# blues are consistent cells and oranges complementary ones, in every figure;
# networks and scales have other colors
CONSISTENT, COMPLEMENTARY = '#0072B2', '#E69F00'
NETWORKS = ('#009E73', '#CC79A7', '#000000', '#882255')
SCALES = ('#000000', '#666666', '#A0A0A0')
LEGENDS = {
    'label':
    'blue: consistent (right or wrong like the whole image), orange: '
    'complementary',
    'class':
    'blue: consistent (the class of the whole image), orange: complementary'
}
"""Meaning of the cells' colors, by the rule for consistent cells."""
HIGHEST = 3  # ratio of height to width up to which images fill their column
FigureAndNumbers = Tuple[Figure, dict]
plt.rcParams['text.parse_math'] = False  # class names may contain a $
# fonts for characters that DejaVu Sans lacks, if they are installed
FONTS = ('Noto Sans CJK SC', 'Noto Sans CJK JP', 'WenQuanYi Zen Hei',
         'Microsoft YaHei', 'PingFang SC', 'Arial Unicode MS')
plt.rcParams['font.family'] = [
    'DejaVu Sans',
    *(font for font in FONTS if font in font_manager.get_font_names())
]


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file, with all of its text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, bbox_inches='tight', pad_inches=0.1)
    return buffer.getvalue()


@lru_cache(maxsize=None)
def _drawable() -> frozenset:
    """The code points that the fonts have."""
    paths = map(font_manager.findfont, plt.rcParams['font.family'])
    return frozenset().union(*(font_manager.get_font(path).get_charmap()
                               for path in paths))


def wrap(name: str, width: int) -> str:
    """A whole name in lines of at most ``width`` characters.

    Underscores are written as spaces. A character that no font has is written
    as its code point, ``<732b>``.
    """
    name = ''.join(
        sign if ord(sign) in _drawable() else f'<{ord(sign):x}>'
        for sign in name.replace('_', ' '))
    return textwrap.fill(name, max(1, width)) or name


def percent(share: float) -> str:
    """A share without decimals; '<1%' instead of a '0%' that is not 0."""
    found = f'{share:.0%}'
    return '<1%' if found == '0%' and share > 0 else found


def short_names(names: Sequence[str]) -> List[str]:
    """Names up to their first comma, where no two become the same.

    ImageNet's are lists of synonyms.
    """
    short = [name.split(',')[0] for name in names]
    count = Counter(short)
    return [
        one if count[one] == 1 else name for one, name in zip(short, names)
    ]


def column_width(images: Sequence[np.ndarray], width: float) -> float:
    """Inches of a column of images: more for wide ones, whose cells are
    low."""
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    return width * min(2, max(1, 0.65 / tallest))


def height_ratio(images: Sequence[np.ndarray]) -> float:
    """Height by width of the tallest image, from 0.3 to ``HIGHEST``."""
    ratios = [image.shape[0] / image.shape[1] for image in images]
    return min(HIGHEST, max([0.3, *ratios]))


def show_image(axes, image: np.ndarray, title: str = '') -> None:
    """An image without axes."""
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)


def _longest_word(names: Sequence[str], classes: Sequence[int]) -> int:
    """Characters that a line must hold, so that only monsters are broken."""
    words = ' '.join(names[index].replace('_', ' ') for index in classes)
    return min(16, max([4, *map(len, words.split())]))


def _font_size(texts: Sequence[str], width: float, height: float) -> float:
    """The largest size with which all texts fit into a cell."""
    lines = [text.split('\n') for text in texts]
    longest = max(len(line) for text in lines for line in text)
    return min(width / (0.66 * max(2, longest)),
               height / (1.3 * max(map(len, lines))))


def draw_cells(axes,
               image: np.ndarray,
               classes: Sequence[int],
               consistent: Sequence[bool],
               names: Sequence[str],
               inches: float,
               title: str = '',
               shares: Optional[Sequence[float]] = None) -> None:
    """Draw an image under a grid of predicted classes.

    Args:
        axes (Axes): Where to draw.
        image (np.ndarray): Bytes, (H, W, 3), RGB.
        classes (Sequence[int]): The predicted classes of m x m cells,
            row-major.
        consistent (Sequence[bool]): Which of the cells are consistent.
        names (Sequence[str]): The names of the classes; the first of several
            synonyms is drawn.
        inches (float): Width of the column.
        title (str): The title. Defaults to ''.
        shares (Sequence[float], optional): The softmax of each prediction.
            Defaults to None: not shown.
    """
    names = short_names(names)
    scale = round(len(classes)**0.5)
    height, width = (size / image.shape[1] for size in image.shape[:2])
    axes.imshow(image, extent=(0, width, height, 0))
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    below = [''] * len(classes) if shares is None else [
        f'\n{percent(share)}' for share in shares
    ]
    # points of a cell, with a margin
    wide = 62 * inches * min(1, HIGHEST / height) / scale
    high = 62 * inches * min(height, HIGHEST) / scale
    size, width_of_line = max(
        (_font_size([
            wrap(names[index], length) + text
            for index, text in zip(classes, below)
        ], wide, high), length)
        for length in range(_longest_word(names, classes), 41))
    size = min(size, 20 / scale**0.4)
    for index, text in enumerate(below):
        name = wrap(names[classes[index]], width_of_line) + text
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
