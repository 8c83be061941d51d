# Copyright (c) sdd_mm contributors. All rights reserved.
"""Losses that compare how the samples of a batch relate to one another.

Student and teacher may have different numbers of channels and sizes: each is
compared with itself first. A sample whose features are all zero, and two
samples at the same place, get no gradient from the direction that they lack.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from ._tensors import check_samples, full_precision, unit

CLOSEST = 1e-12
"""Squared distance below which two samples count as one."""
EPSILON = 1e-7


def rows(student: Tensor, teacher: Tensor):
    """Both as (B, D), without a gradient of the teacher."""
    check_samples(student, teacher)
    return student.flatten(1), teacher.detach().flatten(1)


@full_precision
def rkd_loss(student: Tensor,
             teacher: Tensor,
             distance_weight: float = 25.0,
             angle_weight: float = 50.0) -> Tensor:
    r"""Relational knowledge distillation (Park et al., CVPR 2019).

    Compares the normalized distances of all pairs and the angles of all
    triples of a batch by the smooth L1 loss :math:`\ell`. With :math:`d_{ij} =
    |x_i - x_j| / \mu`, where :math:`\mu` is the mean over all pairs, and
    :math:`e_{ij} = (x_j - x_i) / |x_j - x_i|`:

    .. math::
        w_d\, \ell(d^s_{ij}, d^t_{ij}) +
        w_a\, \ell(e^s_{ij} \cdot e^s_{ik}, e^t_{ij} \cdot e^t_{ik})

    The means run over all B squared pairs and all B cubed triples, as
    released. The memory it takes grows with (B, B, D) and (B, B, B).

    Args:
        student (Tensor): The student's features, (B, ...).
        teacher (Tensor): The teacher's features, (B, ...).
        distance_weight (float): Weight of the distances. Defaults to 25.0.
        angle_weight (float): Weight of the angles. Defaults to 50.0.

    Returns:
        Tensor: The loss, a scalar. It is 0 for fewer than three samples.

    Raises:
        ValueError: If the batch sizes differ or there is no sample.

    Examples:
        >>> rkd_loss(torch.rand(8, 64), torch.rand(8, 256)).shape
        torch.Size([])
    """
    distances, angles = zip(*map(_relations, rows(student, teacher)))
    return (distance_weight * F.smooth_l1_loss(*distances) +
            angle_weight * F.smooth_l1_loss(*angles))


def _relations(x: Tensor):
    """Normalized distances, (B, B), and cosines of angles, (B, B, B)."""
    steps = x[None] - x[:, None]
    square = steps.square().sum(-1)
    others = 1 - torch.eye(len(x), dtype=x.dtype, device=x.device)
    distance = square.clamp(min=CLOSEST).sqrt() * others
    # a batch of one sample has no distance
    mean = distance.sum() / max(1, len(x) * (len(x) - 1))
    direction = unit(steps)
    return (distance / mean.clamp(min=CLOSEST),
            direction @ direction.transpose(1, 2))


@full_precision
def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Similarity-preserving distillation (ICCV 2019, arXiv:1907.09682).

    With :math:`G = X X^T` of the flattened maps and each
    of its rows normalized to length 1,

    .. math:: |\hat G_t - \hat G_s|_F^2 / B^2

    Args:
        student (Tensor): The student's maps or features, (B, ...).
        teacher (Tensor): The teacher's maps or features, (B, ...).

    Returns:
        Tensor: The loss, a scalar.

    Raises:
        ValueError: If the batch sizes differ or there is no sample.

    Examples:
        >>> student, teacher = torch.rand(8, 64, 4, 4), torch.rand(8, 32, 8, 8)
        >>> similarity_loss(student, teacher).shape
        torch.Size([])
    """
    return F.mse_loss(*(unit(x @ x.T) for x in rows(student, teacher)))


@full_precision
def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018).

    With the cosine kernel :math:`K_{ij} = (\cos(x_i, x_j) + 1) / 2`, whose
    rows are scaled to sum to 1 in :math:`P`. The mean runs over all pairs, a
    sample with itself included, as released:

    .. math::
        \frac{1}{B^2} \sum_{ij} P^t_{ij} \ln
        \frac{P^t_{ij} + \epsilon}{P^s_{ij} + \epsilon}

    Args:
        student (Tensor): The student's features, (B, ...).
        teacher (Tensor): The teacher's features, (B, ...).

    Returns:
        Tensor: The loss, a scalar.

    Raises:
        ValueError: If the batch sizes differ or there is no sample.

    Examples:
        >>> pkt_loss(torch.rand(8, 64), torch.rand(8, 256)).shape
        torch.Size([])
    """
    p, q = map(_similarities, rows(student, teacher))
    return (q * ((q + EPSILON) / (p + EPSILON)).log()).mean()


def _similarities(x: Tensor) -> Tensor:
    """How similar every sample is to all, as probabilities, (B, B)."""
    x = unit(x, EPSILON)
    kernel = (x @ x.T + 1) / 2
    return kernel / kernel.sum(-1, keepdim=True)
