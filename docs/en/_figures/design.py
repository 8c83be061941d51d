# Copyright (c) sdd_mm contributors. All rights reserved.
"""Draw _static/design.png: one training step, as the data travels.

Usage:
    python docs/en/_figures/design.py
"""
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from PIL import Image

OUT = Path(__file__).resolve().parents[1] / '_static' / 'design.png'
DATA, TEACHER, STUDENT, LOSS = '#eeeeee', '#fde3c8', '#d6e6f5', '#dff0d8'
ARROW = dict(
    arrowstyle='-|>', color='#444444', linewidth=1.3, shrinkA=0, shrinkB=0)


def box(ax, left, bottom, width, height, color, title, *lines):
    """A box with a bold title, and a smaller line for each of ``lines``."""
    ax.add_patch(
        FancyBboxPatch((left, bottom),
                       width,
                       height,
                       boxstyle='round,pad=0,rounding_size=0.08',
                       facecolor=color,
                       edgecolor='#666666'))
    step = 0.27
    top = bottom + height / 2 + step * len(lines) / 2
    middle = left + width / 2
    ax.text(
        middle, top, title, ha='center', va='center', size=11, weight='bold')
    for row, line in enumerate(lines, 1):
        ax.text(
            middle, top - row * step, line, ha='center', va='center', size=9.5)


def arrow(ax, *points, label=None, at=None):
    """An arrow along points, with a label centered at ``at``."""
    for start, end in zip(points[:-2], points[1:-1]):
        ax.plot(*zip(start, end), color='#444444', linewidth=1.3)
    ax.annotate('', points[-1], points[-2], arrowprops=ARROW)
    if label:
        ax.text(*at, label, ha='center', va='bottom', size=9.5, style='italic')


def main() -> None:
    figure, ax = plt.subplots(figsize=(11, 4.3))
    ax.set(xlim=(0, 16), ylim=(0.35, 5.95))
    ax.set_axis_off()
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.99)

    box(ax, 0.1, 2.5, 2.5, 1.2, DATA, 'data preprocessor',
        'images (B, 3, H, W)', 'labels (B)')
    box(ax, 3.5, 4.2, 3.5, 1.5, TEACHER, 'teacher source',
        'record(images, samples)', 'LiveTeacher runs the teacher,',
        'TeacherCache reads its logits')
    box(ax, 3.5, 0.5, 3.5, 1.5, STUDENT, 'student', 'training forward pass,',
        'under FeatureHeadRecorder', 'and TargetRecorder')
    box(ax, 8.5, 3.35, 4.0, 0.95, LOSS, 'SDDDistiller',
        'compute_distill_losses(teacher)')
    box(ax, 8.5, 1.35, 4.0, 1.5, LOSS, 'ScaleDecoupledLoss',
        'local logits (N, B, K)', 'criterion of every row (N, B)',
        'times cell weights, mean')
    box(ax, 14.3, 1.5, 1.6, 1.2, DATA, 'sum', 'backward,', 'update')

    arrow(ax, (2.6, 3.3), (3.0, 3.3), (3.0, 4.95), (3.5, 4.95))
    arrow(ax, (2.6, 2.9), (3.0, 2.9), (3.0, 1.25), (3.5, 1.25))
    arrow(
        ax, (7.0, 4.95), (10.5, 4.95), (10.5, 4.3),
        label='teacher record (feature map, classifier)',
        at=(9.9, 5.03))
    arrow(
        ax, (7.0, 1.6), (7.6, 1.6), (7.6, 3.83), (8.5, 3.83),
        label='student record,\ntarget',
        at=(6.65, 2.75))
    arrow(ax, (10.5, 3.35), (10.5, 2.85))
    arrow(
        ax, (7.0, 0.8), (15.1, 0.8), (15.1, 1.5),
        label='student.loss (cross entropy)',
        at=(10.5, 0.86))
    arrow(
        ax, (12.5, 2.1), (14.3, 2.1),
        label='distill.loss_sdd',
        at=(13.4, 2.17))
    figure.savefig(OUT, dpi=130, facecolor='white')
    # a drawing needs few colors: a third of the size
    Image.open(OUT).convert(
        'P', palette=Image.Palette.ADAPTIVE, colors=64).save(
            OUT, optimize=True)


if __name__ == '__main__':
    main()
