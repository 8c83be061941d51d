# Copyright (c) sdd_mm contributors. All rights reserved.
"""Figures of the rows."""
import textwrap
from pathlib import Path

from matplotlib.ticker import NullLocator

from ..figures import COLORS, plt

BLUE, ORANGE, *_ = COLORS
GRAY, LIGHT = '#999999', '#dddddd'
GOAL = dict(marker='|', color='black', ls='', ms=14, mew=2)
PROCESSOR = dict(marker='o', color='black', ls='', ms=7, fillstyle='none')
LOOKS = {True: (BLUE, 'o'), False: (ORANGE, 'D'), None: (GRAY, 'o')}


def draw(found: dict, path: Path) -> None:
    """Draw a row: its curves if it has some, else its claims."""
    curves = found['samples'].get('curves')
    figure = draw_curves(curves) if curves else draw_claims(found['claims'])
    facts = found['environment']
    machine = facts['gpu'] or (f'{facts["processor"]}, {facts["threads"]} '
                               'threads')
    title = (found['says'], f'{machine}, torch {facts["torch"]}, n = '
             f'{found["rounds"]} rounds; lines: smallest to largest round')
    figure.suptitle(
        '\n'.join(part for line in title for part in textwrap.wrap(line, 120)),
        fontsize=9,
        ha='left',
        x=0.01)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_claims(claims: list) -> plt.Figure:
    """A mark per claim, its range as a line, its goal as a tick."""
    units = list(dict.fromkeys(one['unit'] for one in claims))
    shown = [[one for one in claims if one['unit'] == unit] for unit in units]
    figure, axes = plt.subplots(
        len(units),
        figsize=(9, 1.6 + 0.42 * len(claims) + 0.6 * len(units)),
        height_ratios=list(map(len, shown)),
        squeeze=False,
        layout='constrained')
    for unit, ones, axis in zip(units, shown, axes[:, 0]):
        for place, one in enumerate(ones):
            color, marker = LOOKS[one['met']]
            axis.plot(one['value'], place, marker, color=color, ms=7)
            if one['low'] is not None:
                axis.plot([one['low'], one['high']], [place] * 2,
                          color=color,
                          lw=2,
                          alpha=0.5)
            for key, look in (('processor', PROCESSOR), ('goal', GOAL)):
                if one[key] is not None:
                    axis.plot(one[key], place, **look)
            axis.annotate(
                f'{one["value"]:.3g}', (one['value'], place),
                xytext=(0, 10),
                textcoords='offset points',
                ha='center',
                fontsize=8)
        axis.set_yticks(
            range(len(ones)),
            [textwrap.fill(one['title'], 58) for one in ones],
            fontsize=8)
        axis.set(
            ylim=(len(ones) - 0.4, -0.7),
            xlabel='ratio' if unit == 'x' else unit)
        axis.set_xlim(left=min(0, axis.get_xlim()[0]))
        axis.tick_params(axis='y', length=0)
        _tidy(axis, 'x', 'top', 'right', 'left')
    handles = [
        plt.Line2D([], [], marker=marker, color=color, label=label)
        for (color,
             marker), label in zip(LOOKS.values(), ('goal met', 'not met',
                                                    'not judged'))
    ]
    handles.append(plt.Line2D([], [], label='goal, at most', **GOAL))
    if any(one['processor'] is not None for one in claims):
        handles.append(
            plt.Line2D([], [], label='in processor time', **PROCESSOR))
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=len(handles),
        frameon=False,
        fontsize=8)
    return figure


def draw_curves(curves: list) -> plt.Figure:
    """Time and memory, a panel per size, both axes logarithmic."""
    figure, axes = plt.subplots(
        2,
        len(curves),
        figsize=(3 * len(curves), 6.2),
        sharex='col',
        sharey='row',
        squeeze=False,
        layout='constrained')
    labels = dict(
        milliseconds='forward and backward (ms)',
        mebibytes='peak memory beyond the inputs (MiB)')
    for column, curve in zip(axes.T, curves):
        for axis, quantity in zip(column, labels):
            for whose, look, color in (('ours', 'o-', BLUE), ('plain', 's--',
                                                              ORANGE)):
                slope = curve['exponents'][whose][quantity]
                axis.loglog(
                    curve['sizes'],
                    curve[whose][quantity],
                    look,
                    color=color,
                    ms=4,
                    label=f'{whose}, exponent {slope:.2f}')
            axis.legend(fontsize=7, frameon=False)
            _tidy(axis, 'both', 'top', 'right')
        axis.set_xticks(curve['sizes'][::2],
                        [f'{size:,}' for size in curve['sizes'][::2]])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(curve['size'])
        column[0].set_title(curve['fixed'], fontsize=8)
    for axis, label in zip(axes[:, 0], labels.values()):
        axis.set_ylabel(label)
    return figure


def _tidy(axis, grid: str, *sides: str) -> None:
    axis.grid(axis=grid, color=LIGHT)
    axis.set_axisbelow(True)
    axis.spines[list(sides)].set_visible(False)
