# Copyright (c) sdd_mm contributors. All rights reserved.
"""The shallowest fusion of ReviewKD without its fused map.

A fusion makes a map of many channels, x z + up(y) g, of the student's map s
and the deeper map y: x = BatchNorm(W s), the two gates z and g have one
channel each, and up doubles the size. Of the shallowest one, nobody needs more
than its 3 x 3 convolution, so the largest maps of the loss can be left out.
All of this is exact up to rounding.

- The mean of W s is W mean(s), and its variances are the diagonal of
  W cov(s) W'. So the normalization is known without W s, and x = A d + c with
  a matrix A, a vector c, and d, which is s less its mean. The weights of the
  attention, applied to x, are a matrix applied to d, too.
- The convolution of x z is one of the maps d z and z, whose weights are its
  own times A and times c. These maps have fewer channels, and the padding is
  right since z is padded.
- The convolution of up(y) g multiplies y by each of its nine taps. These
  products are the same for the four pixels that a position of y becomes, so
  they are taken before the map is enlarged. What such a cell of 2 x 2 pixels
  adds to the 4 x 4 pixels around it is then a matrix of its four gates,
  (16, 9), times its nine products.
"""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...functional._tensors import _is_full

PLAIN = (nn.Conv2d, nn.BatchNorm2d, nn.Conv2d)
CHUNK = 8
"""Samples whose products stay in the cache of a processor."""


def can_factorize(fusion: nn.Module, feature: Tensor, deeper: Optional[Tensor],
                  size: Tuple[int, int]) -> bool:
    """Whether :func:`fuse_and_convolve` applies, and is faster.

    On a GPU it was not measured: it takes a hundred operations more, and what
    counts there is their number. Autocast would multiply the covariance in
    half precision.
    """
    if deeper is None or not feature.is_cpu or not _is_full([feature, deeper]):
        return False
    reduce, norm = fusion.reduce
    kinds = type(reduce), type(norm), type(fusion.expand[0])
    if kinds != PLAIN or not norm.affine or not norm.track_running_stats:
        return False
    double = tuple(2 * side for side in deeper.shape[2:])
    same_size = double == tuple(feature.shape[2:]) == tuple(size)
    fewer = reduce.in_channels < reduce.out_channels
    return same_size and fewer and norm.momentum is not None


def fuse_and_convolve(fusion: nn.Module, feature: Tensor,
                      deeper: Tensor) -> Tensor:
    """``fusion.expand[0]`` of the fused map, (B, out, 2 h, 2 w).

    Args:
        fusion (Fusion): The layers.
        feature (Tensor): The student's map, (B, in, 2 h, 2 w).
        deeper (Tensor): The deeper fused map, (B, C, h, w).
    """
    height, width = deeper.shape[2:]
    reduce, norm, expand = *fusion.reduce, fusion.expand[0]
    weight = reduce.weight.flatten(1)
    feature, matrix, vector = normalize(norm, weight, feature)
    ours, theirs = fusion.attend.weight.flatten(1).split(len(vector), 1)
    bias = fusion.attend.bias + ours @ vector
    logits = pointwise(ours @ matrix, feature)
    below = pointwise(theirs, deeper) + bias[:, None, None]
    gates = (logits.view(-1, 2, height, 2, width, 2) +
             below[:, :, :, None, :, None]).sigmoid()
    own = gates[:, 0].reshape(-1, 1, 2 * height, 2 * width)
    weight = torch.einsum('oc...,ci->oi...', expand.weight,
                          torch.cat([matrix, vector[:, None]], 1))
    joined = torch.cat([feature * own, own], 1)
    # contiguous, or the result were channels last, of which the next batch
    # norm takes less precise means
    above = F.conv2d(joined, weight.contiguous(), padding=1)
    return above + convolve_enlarged(deeper, gates[:, 1], expand.weight)


def normalize(norm: nn.BatchNorm2d, weight: Tensor,
              feature: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """d, A and c of ``norm(W s)`` = A d + c; updates the norm's statistics.

    Args:
        norm (nn.BatchNorm2d): The normalization.
        weight (Tensor): W, (C, in).
        feature (Tensor): s, (B, in, h, w).

    Returns:
        tuple[Tensor, Tensor, Tensor]: d is s in evaluation, and s less its
        mean in training, which keeps the precision.
    """
    if norm.training:
        mean = feature.mean((0, 2, 3))
        feature = feature - mean[:, None, None]
        positions = feature.flatten(2)
        count = len(positions) * positions.shape[2]
        covariance = (positions @ positions.transpose(1, 2)).sum(0) / count
        var = ((weight @ covariance) * weight).sum(1).clamp(min=0)
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(weight @ mean, norm.momentum)
            norm.running_var.lerp_(var * (count / (count - 1)), norm.momentum)
        scale, vector = norm.weight * (var + norm.eps).rsqrt(), norm.bias
    else:
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        vector = norm.bias - scale * norm.running_mean
    return feature, scale[:, None] * weight, vector


def convolve_enlarged(deeper: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    """3 x 3 convolution of a map that is doubled in size, then gated.

    Args:
        deeper (Tensor): The map, (B, C, h, w).
        gate (Tensor): What its pixels are multiplied by, (B, h, 2, w, 2).
        weight (Tensor): Weight of the convolution, (out, C, 3, 3).

    Returns:
        Tensor: (B, out, 2 h, 2 w).
    """
    (_, channels, height, width), out = deeper.shape, len(weight)
    weight = weight.permute(1, 2, 3, 0).reshape(channels, 9 * out)
    # Along an axis, pixel i of a cell reaches pixel p of the four around it by
    # tap i - p + 2. Both p are split into halves, in the order of the quarters
    # of the 4 x 4 pixels.
    i = torch.arange(4, device=deeper.device)
    axis = (i[:2, None, None] - i[:, None] + 2 == i[:3]).to(deeper.dtype)
    axis = axis.view(2, 2, 2, 3)
    reach = torch.einsum('iapk,jbql->ijabpqkl', axis, axis).reshape(4, 16 * 9)
    parts = []
    for rows, cells in zip(
            deeper.permute(0, 2, 3, 1).split(CHUNK),
            gate.transpose(2, 3).split(CHUNK)):
        products = (rows.reshape(-1, channels) @ weight).view(-1, 9, out)
        gates = (cells.reshape(-1, 4) @ reach).view(-1, 16, 9)
        quarters = (gates @ products).view(-1, height, width, 4, 2, 2,
                                           out).transpose(2, 4)
        # the pixels and one more at each border, in blocks as the quarters are
        whole = quarters.new_zeros(len(rows), height + 1, 2, width + 1, 2, out)
        for place, quarter in enumerate(quarters.unbind(3)):
            top, left = divmod(place, 2)
            whole[:, top:top + height, :, left:left + width] += quarter
        parts.append(whole.flatten(3, 4).flatten(1, 2)[:, 1:-1, 1:-1])
    return torch.cat(parts).permute(0, 3, 1, 2)


def pointwise(weight: Tensor, feature: Tensor) -> Tensor:
    """1 x 1 convolution, which for few channels is faster as a product.

    Args:
        weight (Tensor): (out, C).
        feature (Tensor): (B, C, h, w).
    """
    weight = weight.expand(len(feature), -1, -1)
    product = torch.bmm(weight, feature.flatten(2))
    return product.unflatten(2, feature.shape[2:])
