# Copyright (c) sdd_mm contributors. All rights reserved.
"""Which cells are pooled and classified, and which follow from them."""
from fractions import Fraction
from functools import lru_cache
from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._tensors import full_precision, is_compiling

POOLINGS = ('hierarchical', 'direct')
FINEST = 4
"""The grid that hierarchical pooling goes through."""
Matrix = List[List[Fraction]]


def check_scales(scales: Sequence[int]) -> Tuple[int, ...]:
    """Return ``scales`` as a tuple, or say what is wrong with them."""
    if isinstance(scales, (list, tuple)) and len(scales) > 0 and all(
            isinstance(m, int) and not isinstance(m, bool) and m > 0
            for m in scales):
        return tuple(scales)
    raise ValueError('scales must be a non-empty tuple of positive integers '
                     f'such as (1, 2, 4), got {scales!r}')


def check_pooling(pooling: str) -> str:
    """Return ``pooling`` if it names a way of pooling."""
    if pooling not in POOLINGS:
        raise ValueError(f'pooling must be one of {POOLINGS}, got {pooling!r}')
    return pooling


def global_cell(scales: Sequence[int]) -> int:
    """Position of scale 1's only cell among the cells of ``scales``."""
    before = scales[:tuple(scales).index(1)]
    return sum(m * m for m in before)


class PoolingPlan:
    """How the cells of a scale set come from a map of one size.

    Pooling and a linear classifier commute. So only the *base* is pooled and
    classified, and the logits of all cells are averages of the base's:

    - The base is made of the finest cells. A coarser scale is left out where
      each of its cells is the plain average of finer cells: always among the
      scales that divide 4 under hierarchical pooling, which is defined so;
      under direct pooling where the bins of the map's size nest.
    - Where a map has no more positions than that, its positions are the base
      and nothing is pooled.

    What nests is decided in fractions, not up to rounding. Both steps are one
    matrix product each, which autograd differentiates at no cost in memory.
    Where the base's rows of cells lie in bands of the map that are alike, as
    on 8 x 8 maps, a band is pooled from its own positions only.

    Make it with :func:`pooling_plan`, which keeps it.

    Args:
        scales (Sequence[int]): The scale set M.
        pooling (str): 'hierarchical' or 'direct', see
            :func:`sdd_mm.functional.local_logits.pool_cells`.
        size (tuple[int, int]): Height and width of the map.

    Examples:
        >>> plan = pooling_plan((1, 2, 4), 'hierarchical', (8, 8))
        >>> plan.num_base, plan.num_cells
        (16, 21)
        >>> head = torch.nn.Linear(32, 10)
        >>> feature = torch.rand(2, 32, 8, 8)
        >>> base = plan.base_logits(feature, head.weight, head.bias)
        >>> plan.expand(base).shape
        torch.Size([21, 2, 10])
    """

    def __init__(self, scales: Sequence[int], pooling: str,
                 size: Tuple[int, int]) -> None:
        self.scales = check_scales(scales)
        self.pooling = check_pooling(pooling)
        self.size = tuple(size)
        self.num_cells = sum(m * m for m in self.scales)
        self.num_base, self._pool, self._band, self._expand = _matrices(
            self.scales, self.pooling, self.size)
        self._tensors = {}

    @full_precision
    def pool_base(self, feature: Tensor) -> Tensor:
        """The base of a map (B, C, h, w), pooled, (F, B, C)."""
        batch, channels = feature.shape[:2]
        if self._pool is None:
            return feature.flatten(2).permute(2, 0, 1)
        # in full, for a batch of none has no size to conclude
        positions = feature.reshape(batch * channels,
                                    self.size[0] * self.size[1])
        pool = self._matrix('_pool', feature)
        band = self._band and self._matrix('_band', feature)
        return _Pool.apply(positions, pool, band).view(self.num_base, batch,
                                                       channels)

    @full_precision
    def base_logits(self,
                    feature: Tensor,
                    weight: Tensor,
                    bias: Optional[Tensor] = None) -> Tensor:
        """Logits of the base.

        Args:
            feature (Tensor): Feature map before global pooling, (B, C, h, w)
                with the plan's h and w.
            weight (Tensor): Classifier weight, (K, C).
            bias (Tensor, optional): Classifier bias, (K,). Defaults to None.

        Returns:
            Tensor: (F, B, K), F being ``num_base``, in float32 or wider.
        """
        return F.linear(self.pool_base(feature), weight, bias)

    @full_precision
    def expand(self, base: Tensor) -> Tensor:
        """All cells from the base.

        Args:
            base (Tensor): Logits of the base, or its pooled features,
                (F, B, K).

        Returns:
            Tensor: (N, B, K), in float32 or wider; cells scale by scale in
            the order of ``scales``, row-major inside a scale.
        """
        if len(base) != self.num_base:
            raise ValueError(
                f'a base of scales {self.scales} with {self.pooling} pooling '
                f'on a {self.size[0]} x {self.size[1]} map has '
                f'{self.num_base} rows, got shape {tuple(base.shape)}')
        if self._expand is None:
            return base
        cells = self._matrix('_expand', base) @ base.flatten(1)
        return cells.view(self.num_cells, *base.shape[1:])

    def _matrix(self, name: str, like: Tensor) -> Tensor:
        """A matrix on the device and in the dtype of ``like``, kept there."""
        key = name, like.device, like.dtype
        if key in self._tensors and _is_plain(like):
            return self._tensors[key]
        # an inference tensor could not be saved for a later backward
        with torch.inference_mode(False):
            matrix = torch.tensor(
                getattr(self, name), device=like.device, dtype=like.dtype)
        if _is_plain(like) and _is_plain(matrix):
            self._tensors[key] = matrix
        return matrix


class _Pool(torch.autograd.Function):
    """Cells (F, R) of R maps (R, positions).

    Both directions are products in the order that reads and writes a map row
    by row.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(positions, pool, band):
        if band is None:
            return pool @ positions.T
        bands = len(pool) // len(band)
        rows, length = len(positions), band.shape[1]
        return torch.bmm(
            band.expand(bands, *band.shape),
            positions.view(rows, bands,
                           length).permute(1, 2, 0)).view(len(pool), rows)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, grad):
        return grad.T @ ctx.saved_tensors[0], None, None


@lru_cache(maxsize=256)
def pooling_plan(scales: Tuple[int, ...], pooling: str,
                 size: Tuple[int, int]) -> PoolingPlan:
    """The plan of these scales and this pooling for maps of ``size``."""
    return PoolingPlan(scales, pooling, size)


# a compiler takes the result as it is, it is not to trace into fractions
@torch.compiler.assume_constant_result
def _matrices(scales: Tuple[int, ...], pooling: str, size: Tuple[int, int]):
    """Size of the base and what pools and expands it.

    Returns:
        tuple: The number of base rows, rows of (base, positions), such rows
        of one band of the map, and rows of (cells, base). None stands for the
        identity, and for no band.
    """
    axes = {m: [_axis(side, m, pooling) for side in size] for m in scales}
    # the finer scale of the base that a scale is averaged from
    source = {}
    for m in sorted(axes, reverse=True):
        source[m] = next(
            (f for f in source if source[f] == f and _nests(m, f, axes)), m)
    base = [m for m in source if source[m] == m]
    first = {m: sum(f * f for f in base[:base.index(m)]) for m in base}
    num_base = sum(m * m for m in base)
    positions = size[0] * size[1]
    if positions <= num_base:
        num_base = positions
        pool = band = None
        expand = [row for m in scales for row in _grid(*axes[m])]
    else:
        pool = [row for m in base for row in _grid(*axes[m])]
        band = _band(*axes[base[0]]) if len(base) == 1 else None
        expand = []
        for m in scales:
            f = source[m]
            left = [0.] * first[f]
            right = [0.] * (num_base - first[f] - f * f)
            bins = _bins(f, m)
            expand += [left + row + right for row in _grid(bins, bins)]
    identity = [[float(i == j) for j in range(num_base)]
                for i in range(num_base)]
    return (num_base, None if pool == identity else pool, band,
            None if expand == identity else expand)


def _is_plain(tensor: Tensor) -> bool:
    """Whether this is a real tensor, no stand-in of a tracer."""
    return (type(tensor) in (Tensor, nn.Parameter) and not is_compiling())


def _bins(size: int, m: int) -> Matrix:
    """Adaptive average pooling of ``size`` positions to ``m``."""
    rows = []
    for i in range(m):
        first, end = i * size // m, -(-(i + 1) * size // m)
        rows.append([
            Fraction(int(first <= j < end), end - first) for j in range(size)
        ])
    return rows


def _axis(size: int, m: int, pooling: str) -> Matrix:
    """Scale ``m`` along one side of the map."""
    if pooling == 'hierarchical' and FINEST % m == 0:
        return _product(_bins(FINEST, m), _bins(size, FINEST))
    return _bins(size, m)


def _product(left: Matrix, right: Matrix) -> Matrix:
    return [[
        sum(a * b for a, b in zip(row, column)) for column in zip(*right)
    ] for row in left]


def _nests(m: int, finer: int, axes: dict) -> bool:
    """Whether the cells of ``m`` are averages of those of ``finer``."""
    return finer % m == 0 and all(
        _product(_bins(finer, m), fine) == coarse
        for fine, coarse in zip(axes[finer], axes[m]))


def _band(height: Matrix, width: Matrix) -> Optional[List[List[float]]]:
    """The cells of the map's first band over that band's positions, if all
    bands are alike."""
    rows = len(height[0]) // len(height)
    first = height[0][:rows]
    for i, row in enumerate(height):
        before = [0] * (i * rows)
        if row != before + first + [0] * (len(row) - len(before) - rows):
            return None
    return _grid([first], width)


def _grid(height: Matrix, width: Matrix) -> List[List[float]]:
    """The cells of two axes over the positions of both, row-major."""
    return [[float(a * b) for a in row for b in column] for row in height
            for column in width]
