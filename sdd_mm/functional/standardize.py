# Copyright (c) sdd_mm contributors. All rights reserved.
r"""Logit standardization (Sun et al., CVPR 2024)."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._tensors import full_precision

EPS = 1e-7
"""Beside the standard deviation, as released."""


@full_precision
def standardize(logits: Tensor) -> Tensor:
    r"""z-scores of every row of logits.

    .. math:: z_k = (x_k - \bar x) / (s + 10^{-7}), \quad
        s^2 = \sum_k (x_k - \bar x)^2 / (K - 1)

    Their derivative is orthogonal to 1 and to the row itself: a loss of them
    knows nothing of scale and shift, and therefore of confidence. No z-score
    exceeds :math:`(K - 1) / \sqrt K`, so a temperature suits a number of
    classes: the published 2 is for 100, and :math:`0.2 \sqrt K` is as sharp
    for others. Rows of equal logits give zeros, and no gradient (as released
    it is up to 1e7 times the incoming one).

    Args:
        logits (Tensor): Rows of logits, (..., K).

    Returns:
        Tensor: Shape (..., K), without a second derivative.

    Raises:
        ValueError: If K < 2.

    Examples:
        >>> standardize(torch.randn(21, 8, 100)).std(-1).mean()
        tensor(1.0000)
    """
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise ValueError('standardize needs rows of at least 2 logits, got '
                         f'shape {tuple(logits.shape)}')
    return _Standardize.apply(logits)


class _Standardize(torch.autograd.Function):
    """The derivative of a row, of which z and s are kept."""

    @staticmethod
    def forward(ctx, logits: Tensor) -> Tensor:
        # relative to the largest, so that sums of large logits stay finite
        eps, tiny = (
            getattr(torch.finfo(logits.dtype), name)
            for name in ('eps', 'tiny'))
        size = logits.abs().amax(-1, keepdim=True).clamp(min=tiny)
        centered = logits / size
        centered = centered - centered.mean(-1, keepdim=True)
        spread = centered.square().sum(-1, keepdim=True)
        spread = spread.div(logits.shape[-1] - 1).sqrt()
        # what rounding leaves of equal logits is no spread
        equal = spread <= 4 * eps
        z = (centered / (spread + EPS / size)).masked_fill(equal, 0)
        ctx.save_for_backward(z,
                              (spread * size).masked_fill(equal, float('inf')))
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        z, spread = ctx.saved_tensors
        along = (gradient * z).sum(-1, keepdim=True) / (z.shape[-1] - 1)
        along = along * (1 + EPS / spread)
        gradient = gradient - gradient.mean(-1, keepdim=True) - z * along
        return gradient / (spread + EPS)
