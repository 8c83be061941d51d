# Copyright (c) sdd_mm contributors. All rights reserved.
"""Multi-scale pooling: the logits of every cell (equations 4 to 7)."""
from functools import lru_cache
from typing import Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._tensors import check_choice, full_precision, is_compiling

POOLINGS = ('hierarchical', 'direct')
FINEST = 4
"""The grid that hierarchical pooling goes through."""


@full_precision
def local_logits(feature: Tensor,
                 weight: Tensor,
                 bias: Optional[Tensor] = None,
                 scales: Sequence[int] = (1, 2, 4),
                 pooling: str = 'hierarchical') -> Tensor:
    r"""Logits of every cell of every scale, by the network's own classifier.

    Pooling and a linear classifier commute (equations 4 and 5), so the map is
    pooled first and the logit map :math:`L = W f` is never built:

    .. math::
        \pi(m, n) = \frac{1}{|C(m, n)|} \sum_{(j, k) \in C(m, n)} W f(j, k)

    This is equation 6 (teacher) and 7 (student) of the paper, with the mean
    over the cell's positions where the paper prints :math:`1/m^2`.

    Args:
        feature (Tensor): Feature map before global pooling, (B, C, h, w).
        weight (Tensor): Classifier weight, (K, C).
        bias (Tensor, optional): Classifier bias, (K,). Defaults to None.
        scales (Sequence[int]): The scale set M. Defaults to (1, 2, 4).
        pooling (str): 'hierarchical' or 'direct', see :func:`pool_cells`.
            Defaults to 'hierarchical'.

    Returns:
        Tensor: (N, B, K) in float32 or wider, N the sum of the squared
        scales; cells scale by scale as given, row-major inside a scale.

    Raises:
        ValueError: If a shape, the scales or the pooling is not as above.

    Examples:
        >>> feature = torch.rand(8, 256, 7, 7)
        >>> head = torch.nn.Linear(256, 100)
        >>> local_logits(feature, head.weight, head.bias).shape
        torch.Size([21, 8, 100])
    """
    if weight.ndim != 2 or feature.ndim == 4 and (weight.shape[1]
                                                  != feature.shape[1]):
        raise ValueError(
            'weight must have shape (K, C) with the C of the feature map, got '
            f'weight {tuple(weight.shape)}, feature {tuple(feature.shape)}')
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f'bias must have shape ({weight.shape[0]},), got '
                         f'{tuple(bias.shape)}')
    base = F.linear(pool_base(feature, scales, pooling), weight, bias)
    return expand_base(base, scales, pooling, feature.shape[2:])


@full_precision
def base_logits(feature: Tensor, weight: Tensor, bias: Optional[Tensor],
                scales: Sequence[int], pooling: str) -> Tensor:
    """Logits of the rows of :func:`pool_base`, (R, B, K).

    :func:`expand_base` makes :func:`local_logits` of them.
    """
    return F.linear(pool_base(feature, scales, pooling), weight, bias)


@full_precision
def pool_cells(feature: Tensor,
               scales: Sequence[int] = (1, 2, 4),
               pooling: str = 'hierarchical') -> Tensor:
    """Average a feature map over every cell of every scale.

    Scale ``m`` splits the map into an ``m`` x ``m`` grid with the bins of
    adaptive average pooling: cell ``i`` of ``m`` covers the positions from
    ``floor(i h / m)`` to ``ceil((i + 1) h / m)``, so that cells overlap where
    ``m`` does not divide ``h`` and repeat where ``m`` exceeds it.

    Args:
        feature (Tensor): Feature map before global pooling, (B, C, h, w).
        scales (Sequence[int]): The scale set M. Defaults to (1, 2, 4).
        pooling (str): 'direct' pools every scale from the map, as in
            equations 6 and 7. 'hierarchical' is the authors' released code:
            the map is pooled to 4 x 4 first whatever M is, and every scale
            that divides 4 is pooled from there; other scales come from the
            map. Defaults to 'hierarchical'.

    Returns:
        Tensor: (N, B, C), N the sum of the squared scales. Cells come scale
        by scale in the order of ``scales``, row-major inside a scale.
    """
    return expand_base(
        pool_base(feature, scales, pooling), scales, pooling,
        feature.shape[2:])


def pool_base(feature: Tensor, scales: Sequence[int], pooling: str) -> Tensor:
    """The cells that all others are averages of, pooled, (R, B, C).

    These are the finest scale's, if the others nest in it, or the map's own
    positions, if they are no more. So only these rows are classified and
    cached.

    Args:
        feature (Tensor): Feature map before global pooling, (B, C, h, w).
        scales (Sequence[int]): The scale set M.
        pooling (str): 'hierarchical' or 'direct'.
    """
    scales, pooling = check_scales(scales), check_pooling(pooling)
    if feature.ndim != 4:
        raise ValueError('feature must be a map of shape (B, C, h, w), got '
                         f'shape {tuple(feature.shape)}')
    batch, channels, *size = feature.shape
    pool = _matrix(0, scales, pooling, tuple(size), feature)
    if pool is None:
        return feature.flatten(2).permute(2, 0, 1)
    positions = feature.reshape(batch * channels, size[0] * size[1])
    # in this order both directions read and write the map row by row
    apply = _Pool.apply if positions.requires_grad else _Pool.forward
    return apply(positions, pool).view(len(pool), batch, channels)


@full_precision
def expand_base(base: Tensor, scales: Sequence[int], pooling: str,
                size: Sequence[int]) -> Tensor:
    """All cells, (N, B, K), from the rows of :func:`pool_base`.

    Args:
        base (Tensor): Their features or logits, (R, B, K).
        scales (Sequence[int]): The scale set M.
        pooling (str): 'hierarchical' or 'direct'.
        size (Sequence[int]): Height and width of the map.
    """
    expand = _matrix(1, tuple(scales), pooling, tuple(size), base)
    if expand is None:
        return base
    return (expand @ base.flatten(1)).view(len(expand), *base.shape[1:])


class _Pool(torch.autograd.Function):
    """Cells (R, B C) of maps (B C, positions)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(positions, pool):
        return pool @ positions.T

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, grad):
        return grad.T @ ctx.saved_tensors[0], None


_TENSORS = {}


def _matrix(part: int, scales: Tuple[int, ...], pooling: str,
            size: Tuple[int, int], like: Tensor) -> Optional[Tensor]:
    """One of :func:`_matrices`, kept on the device of ``like``."""
    key = part, scales, pooling, size, like.device, like.dtype
    # a tracer's stand-ins are neither kept nor mixed with what is kept
    plain = type(like) in (Tensor, nn.Parameter) and not is_compiling()
    if plain and key in _TENSORS:
        return _TENSORS[key]
    rows = _rows(part, scales, pooling, size)
    if rows is None:
        return None
    # an inference tensor could not be saved for a later backward pass
    with torch.inference_mode(False):
        matrix = torch.tensor(rows, device=like.device, dtype=like.dtype)
    if plain and type(matrix) is Tensor:
        _TENSORS[key] = matrix
    return matrix


# a compiler takes the result as it is
@torch.compiler.assume_constant_result
def _rows(part: int, *grid) -> Optional[list]:
    return _matrices(*grid)[part]


@lru_cache(maxsize=256)
def _matrices(scales: Tuple[int, ...], pooling: str, size: Tuple[int, int]):
    """What pools the base, (R, positions), and what expands it, (N, R).

    None stands for the identity.
    """
    cells = np.concatenate([_cells(m, pooling, size) for m in scales])
    finest = max(scales)
    if size[0] * size[1] <= finest**2:
        return None, cells.tolist()
    pool = _cells(finest, pooling, size)
    expand = np.concatenate(
        [_cells(m, 'direct', (finest, finest)) for m in scales])
    if len(scales) > 1 and np.allclose(expand @ pool, cells, 0, 1e-12):
        return pool.tolist(), expand.tolist()
    return cells.tolist(), None


def _cells(m: int, pooling: str, size: Tuple[int, int]) -> np.ndarray:
    """The cells of a scale over the positions of a map, (m m, h w)."""
    axes = [_bins(n, m) for n in size]
    if pooling == 'hierarchical' and FINEST % m == 0:
        axes = [_bins(FINEST, m) @ _bins(n, FINEST) for n in size]
    return np.kron(*axes)


def _bins(size: int, m: int) -> np.ndarray:
    """Adaptive average pooling of ``size`` positions to ``m``, (m, size)."""
    bins = np.zeros((m, size))
    for i in range(m):
        bins[i, i * size // m:-(-(i + 1) * size // m)] = 1.
    return bins / bins.sum(1, keepdims=True)


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
    return check_choice('pooling', pooling, POOLINGS)


def global_cell(scales: Sequence[int]) -> int:
    """Position of scale 1's only cell among the cells of ``scales``."""
    before = scales[:tuple(scales).index(1)]
    return sum(m * m for m in before)
