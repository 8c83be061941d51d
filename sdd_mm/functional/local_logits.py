# Copyright (c) sdd_mm contributors. All rights reserved.
"""Multi-scale pooling: the logits of every cell (equations 4 to 7)."""
from typing import Optional, Sequence

from torch import Tensor

from ._tensors import full_precision
from .pooling_plan import (PoolingPlan, check_pooling, check_scales,
                           pooling_plan)


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
        pooling (str): 'direct' pools every scale from the map, as equations 6
            and 7 have it. 'hierarchical' is the authors' released code: the
            map is pooled to 4 x 4 first whatever M is, and every scale that
            divides 4 is pooled from there; other scales come from the map.
            Defaults to 'hierarchical'.

    Returns:
        Tensor: (N, B, C), N the sum of the squared scales. Cells come scale
        by scale in the order of ``scales``, row-major inside a scale.
    """
    plan = _plan(feature, scales, pooling)
    return plan.expand(plan.pool_base(feature))


@full_precision
def local_logits(feature: Tensor,
                 weight: Tensor,
                 bias: Optional[Tensor] = None,
                 scales: Sequence[int] = (1, 2, 4),
                 pooling: str = 'hierarchical') -> Tensor:
    r"""Logits of every cell of every scale, by the network's own classifier.

    Pooling and a linear classifier commute (equations 4 and 5), so the map is
    pooled first, the logit map :math:`L = W f` is never built, and of the
    cells only those are classified that the others are no averages of
    (:class:`~sdd_mm.functional.PoolingPlan`):

    .. math::
        \pi(m, n) = \frac{1}{|C(m, n)|} \sum_{(j, k) \in C(m, n)} W f(j, k)

    which is equation 6 (teacher) and 7 (student) of the paper, with the mean
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
    plan = _plan(feature, scales, pooling)
    return plan.expand(plan.base_logits(feature, weight, bias))


def _plan(feature: Tensor, scales: Sequence[int], pooling: str) -> PoolingPlan:
    """The plan for a map, if it is one."""
    scales, pooling = check_scales(scales), check_pooling(pooling)
    if feature.ndim != 4:
        raise ValueError('feature must be a map of shape (B, C, h, w), got '
                         f'shape {tuple(feature.shape)}')
    return pooling_plan(scales, pooling, tuple(feature.shape[2:]))
