# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the figures share: fonts, colors, and an image under its cells."""
import io
from functools import lru_cache
from typing import Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import font_manager  # noqa: E402

# Okabe and Ito's colors, which color-blind readers can tell apart
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
          '#000000', '#999999', '#882255', '#F0E442')
CONSISTENT, COMPLEMENTARY = '#0072B2', '#E69F00'
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


def shorten(name: str, length: int) -> str:
    """A name of at most ``length`` characters, all of which can be drawn.

    A character that no font has is written as its code point, ``<732b>``.
    """
    name = ''.join(
        sign if ord(sign) in _drawable() else f'<{ord(sign):x}>'
        for sign in name)
    return name if len(name) <= length else f'{name[:length - 1]}…'


def height_ratio(images: Sequence[np.ndarray]) -> float:
    """Height by width of the tallest image, from 0.3 to ``HIGHEST``."""
    ratios = [image.shape[0] / image.shape[1] for image in images]
    return min(HIGHEST, max([0.3, *ratios]))


def show_image(axes, image: np.ndarray, title: str = '') -> None:
    """An image without axes."""
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)


def draw_cells(axes,
               image: np.ndarray,
               classes: Sequence[int],
               consistent: Sequence[bool],
               names: Sequence[str],
               title: str = '') -> None:
    """Draw an image under a grid of predicted classes.

    Args:
        axes (Axes): Where to draw.
        image (np.ndarray): Bytes, (H, W, 3), RGB.
        classes (Sequence[int]): The predicted classes of m x m cells,
            row-major.
        consistent (Sequence[bool]): Which of the cells are consistent.
        names (Sequence[str]): The names of the classes.
        title (str): The title. Defaults to ''.
    """
    scale = round(len(classes)**0.5)
    height, width = (size / image.shape[1] for size in image.shape[:2])
    axes.imshow(image, extent=(0, width, height, 0))
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    shown = [shorten(names[index], 40 // (scale + 1)) for index in classes]
    # the largest size with which the longest name fits into a cell
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
