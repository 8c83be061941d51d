# Copyright (c) sdd_mm contributors. All rights reserved.
"""Contrastive representation distillation (Tian et al., ICLR 2020).

An embedding is compared with rows of the other network's memory bank: with
that of its own image, and with those of K images of other classes.
"""
import torch
from torch import Tensor

from ._tensors import check_positive, full_precision

CHUNK = 2**26
"""Scores against the whole bank in memory at a time, 256 MiB in float32."""
EPSILON = 1e-7


@full_precision
def contrastive_scores(embedding: Tensor,
                       bank: Tensor,
                       index: Tensor,
                       temperature: float = 0.07) -> Tensor:
    r"""Similarities of embeddings and rows of a memory bank.

    .. math:: u_{bk} = \exp(bank_{index_{bk}} \cdot embedding_b / \tau)

    They become probabilities by division by a constant Z. Every embedding is
    multiplied with the whole bank, of which the wanted scores are taken: the
    rows, (B, K + 1, D), would take far more memory.

    Args:
        embedding (Tensor): Embeddings of one network, (B, D).
        bank (Tensor): The other network's memory, (n, D). A constant.
        index (Tensor): Integer rows of the bank per embedding, (B, K + 1).
        temperature (float): Defaults to 0.07.

    Returns:
        Tensor: The scores, (B, K + 1).

    Raises:
        ValueError: If a shape or the temperature is not as above.

    Examples:
        >>> embedding, bank = torch.rand(4, 128), torch.rand(1000, 128)
        >>> index = torch.randint(1000, (4, 17))
        >>> contrastive_scores(embedding, bank, index).shape
        torch.Size([4, 17])
    """
    check_positive('temperature', temperature)
    if embedding.ndim != 2 or embedding.shape[1:] != bank.shape[1:]:
        raise ValueError('embedding must have shape (B, D) and bank (n, D), '
                         f'got {tuple(embedding.shape)} and '
                         f'{tuple(bank.shape)}')
    if index.ndim != 2 or len(index) != len(embedding):
        raise ValueError(f'index must have shape ({len(embedding)}, K + 1), '
                         f'got {tuple(index.shape)}')
    bank, size = bank.detach(), max(1, CHUNK // max(1, len(bank)))
    scores = [
        (rows @ bank.T).gather(1, wanted)
        for rows, wanted in zip(embedding.split(size), index.split(size))
    ]
    return (torch.cat(scores) / temperature).exp()


@full_precision
def contrastive_loss(scores: Tensor, num_data: int) -> Tensor:
    r"""Noise contrastive estimation of one network's scores.

    The embedding of an image is to be distinguished from those of K others.
    With :math:`m = K / n`:

    .. math::
        -\frac{1}{B} \sum_b \Big[ \ln \frac{u_{b0}}{u_{b0} + m} + \sum_{k > 0}
        \ln \frac{m}{u_{bk} + m} \Big]

    Args:
        scores (Tensor): Scores divided by Z, (B, K + 1), positive; the first
            of each row is that of the image itself.
        num_data (int): Images in the training set, n.

    Returns:
        Tensor: The loss of this side, a scalar.

    Raises:
        ValueError: If there is no sample or no negative, or ``num_data`` is
            not positive.

    Examples:
        >>> contrastive_loss(torch.rand(8, 17), num_data=1000).shape
        torch.Size([])
    """
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError('scores must have shape (B, K + 1) with at least one '
                         'sample and one negative, got '
                         f'{tuple(scores.shape)}')
    check_positive('num_data', num_data)
    noise = (scores.shape[1] - 1) / num_data
    total = scores + (noise + EPSILON)
    right = (scores[:, 0] / total[:, 0]).log()
    wrong = (noise / total[:, 1:]).log().sum(-1)
    return -(right + wrong).mean()
