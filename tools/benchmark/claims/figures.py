# Copyright (c) sdd_mm contributors. All rights reserved.
"""Figures of the rows."""
import textwrap
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

matplotlib.use('Agg')
# Okabe and Ito's colours, which everybody can tell apart
BLUE, ORANGE, GREY = '#0072B2', '#D55E00', '#999999'


def draw(found: dict, path: Path) -> None:
    """Draw a row: its own figure if it has one, else its claims."""
    curves = found['samples'].get('curves')
    figure = draw_curves(found, curves) if curves else draw_claims(found)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_claims(found: dict) -> plt.Figure:
    """A dot a claim, its spread as a line, its goal as a tick."""
    claims = found['claims']
    units = list(dict.fromkeys(one['unit'] for one in claims))
    heights = [sum(one['unit'] == unit for one in claims) for unit in units]
    figure, axes = plt.subplots(
        len(units),
        figsize=(9, 1.6 + 0.42 * len(claims) + 0.6 * len(units)),
        height_ratios=heights,
        squeeze=False,
        layout='constrained')
    for unit, axis in zip(units, axes[:, 0]):
        shown = [one for one in claims if one['unit'] == unit]
        for place, one in enumerate(shown):
            color = GREY if one['met'] is None else (
                BLUE if one['met'] else ORANGE)
            if one['low'] is not None:
                axis.plot([one['low'], one['high']], [place] * 2,
                          color=color,
                          linewidth=2,
                          alpha=0.5)
            axis.plot(
                one['value'],
                place,
                'D' if one['met'] is False else 'o',
                color=color,
                markersize=7)
            if one['processor'] is not None:
                axis.plot(
                    one['processor'],
                    place,
                    'o',
                    color='black',
                    fillstyle='none',
                    markersize=7)
            if one['goal'] is not None:
                axis.plot(
                    one['goal'],
                    place,
                    '|',
                    color='black',
                    markersize=16,
                    markeredgewidth=2)
            axis.annotate(
                f'{one["value"]:.3g}', (one['value'], place),
                xytext=(0, 10),
                textcoords='offset points',
                ha='center',
                fontsize=8)
        axis.set_yticks(
            range(len(shown)),
            ['\n'.join(textwrap.wrap(one['title'], 58)) for one in shown],
            fontsize=8)
        axis.set_ylim(len(shown) - 0.4, -0.7)
        axis.set_xlim(left=min(0, axis.get_xlim()[0]))
        axis.set_xlabel('ratio' if unit == 'x' else unit)
        axis.grid(axis='x', color='#dddddd')
        axis.set_axisbelow(True)
        for side in ('top', 'right', 'left'):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis='y', length=0)
    handles = [
        plt.Line2D([], [], marker='o', color=BLUE, label='goal met'),
        plt.Line2D([], [], marker='D', color=ORANGE, label='not met'),
        plt.Line2D([], [], marker='o', color=GREY, label='not judged'),
        plt.Line2D([], [],
                   marker='|',
                   color='black',
                   linestyle='',
                   markersize=12,
                   markeredgewidth=2,
                   label='goal, at most'),
    ]
    if any(one['processor'] is not None for one in claims):
        handles.append(
            plt.Line2D([], [],
                       marker='o',
                       color='black',
                       linestyle='',
                       fillstyle='none',
                       label='in processor time'))
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=len(handles),
        frameon=False,
        fontsize=8)
    figure.suptitle(_title(found), fontsize=9, ha='left', x=0.01)
    return figure


def draw_curves(found: dict, curves: list) -> plt.Figure:
    """Time and memory against one size a panel, both axes logarithmic."""
    figure, axes = plt.subplots(
        2,
        len(curves),
        figsize=(3 * len(curves), 6.2),
        sharex='col',
        sharey='row',
        squeeze=False,
        layout='constrained')
    markers = dict(
        zip(('ours', 'plain'), ((BLUE, 'o', '-'), (ORANGE, 's', '--'))))
    for column, curve in enumerate(curves):
        for row, quantity in enumerate(('milliseconds', 'mebibytes')):
            axis = axes[row, column]
            for whose, (color, marker, line) in markers.items():
                slope = curve['exponents'][whose][quantity]
                axis.loglog(
                    curve['sizes'],
                    curve[whose][quantity],
                    line,
                    color=color,
                    marker=marker,
                    markersize=4,
                    label=f'{whose}, exponent {slope:.2f}')
            axis.grid(color='#dddddd', which='major')
            axis.legend(fontsize=7, frameon=False)
            axis.set_axisbelow(True)
            for side in ('top', 'right'):
                axis.spines[side].set_visible(False)
        axis.set_xticks(curve['sizes'][::2],
                        [f'{size:,}' for size in curve['sizes'][::2]])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(curve['size'])
        axes[0, column].set_title(curve['fixed'], fontsize=8)
    axes[0, 0].set_ylabel('forward and backward (ms)')
    axes[1, 0].set_ylabel('peak memory beyond the inputs (MiB)')
    figure.suptitle(_title(found), fontsize=9, ha='left', x=0.01)
    return figure


def _title(found: dict) -> str:
    facts = found['environment']
    machine = facts['gpu'] or (f'{facts["processor"]}, {facts["threads"]} '
                               f'thread{"s" * (facts["threads"] > 1)}')
    text = (f'{found["says"]}\n{machine}, torch {facts["torch"]}, n = '
            f'{found["rounds"]} rounds; lines: smallest to largest round')
    return '\n'.join('\n'.join(textwrap.wrap(line, 120))
                     for line in text.splitlines())
