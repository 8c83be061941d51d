# Copyright (c) sdd_mm contributors. All rights reserved.
"""Equations 4 to 7, position by position: the logits of every cell."""
from typing import Sequence

from torch import Tensor

from .tensors import scalars, stacked


def logit_map(feature: list, weight: list, bias: list = None) -> list:
    """L(j, k) = W f(j, k), plus b if there is one (equations 4 and 5).

    ``feature[c][j][k]`` is the map of one sample, ``weight[l][c]`` and
    ``bias[l]`` are the classifier; the result is ``[l][j][k]``.
    """
    result = []
    for class_ in range(len(weight)):
        plane = []
        for j in range(len(feature[0])):
            row = []
            for k in range(len(feature[0][0])):
                value = 0. if bias is None else bias[class_]
                for channel in range(len(feature)):
                    value = value + (
                        weight[class_][channel] * feature[channel][j][k])
                row.append(value)
            plane.append(row)
        result.append(plane)
    return result


def bins(size: int, m: int, i: int) -> range:
    """Positions of bin ``i`` of ``m``: floor(i h/m) to ceil((i + 1) h/m)."""
    floor = i * size // m
    ceil = -(-(i + 1) * size // m)
    return range(floor, ceil)


def cell_mean(plane: list, rows: range, columns: range):
    """The sum over C(m, n) divided by its size (equations 6 and 7).

    The equations print 1 / m^2, which is a mean only if m is the side of the
    cell.
    """
    total = 0.
    for j in rows:
        for k in columns:
            total = total + plane[j][k]
    return total / (len(rows) * len(columns))


def grid(plane: list, m: int) -> list:
    """All cells of scale ``m`` of one class, ``[i][j]``."""
    result = []
    for i in range(m):
        row = []
        for j in range(m):
            row.append(
                cell_mean(plane, bins(len(plane), m, i),
                          bins(len(plane[0]), m, j)))
        result.append(row)
    return result


def scale_grid(plane: list, m: int, pooling: str) -> list:
    """Scale ``m`` under one of the two readings of equations 6 and 7.

    'direct' averages the logit map itself. 'hierarchical' averages the map
    to 4 x 4 first, for the scales that divide 4.
    """
    if pooling == 'hierarchical' and 4 % m == 0:
        plane = grid(plane, 4)
    return grid(plane, m)


def logit_maps(feature: Tensor, weight: Tensor, bias: Tensor = None) -> list:
    """The logit map of every sample."""
    weight = scalars(weight)
    bias = None if bias is None else scalars(bias)
    return [logit_map(sample, weight, bias) for sample in scalars(feature)]


def cells(maps: list, scales: Sequence[int], pooling: str) -> Tensor:
    """pi(m, n) for every scale, cell, sample and class, as (N, B, K)."""
    result = []
    for m in scales:
        grids = [[scale_grid(plane, m, pooling) for plane in sample]
                 for sample in maps]
        for i in range(m):
            for j in range(m):
                result.append([[plane[i][j] for plane in sample]
                               for sample in grids])
    return stacked(result)


def local_logits(feature: Tensor,
                 weight: Tensor,
                 bias: Tensor = None,
                 scales: Sequence[int] = (1, 2, 4),
                 pooling: str = 'hierarchical') -> Tensor:
    """The cells of the logit maps, (N, B, K)."""
    return cells(logit_maps(feature, weight, bias), scales, pooling)
