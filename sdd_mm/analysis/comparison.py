# Copyright (c) sdd_mm contributors. All rights reserved.
"""What an engineer compares: accuracy with its interval, size, latency."""
import statistics
import time
from typing import NamedTuple, Optional, Tuple

import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.logging import MMLogger
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .validation import labels_of

REPEATS = 30
MEANINGFUL = 0.05  # level of the test


class Measured(NamedTuple):
    """A network on a set of images.

    Args:
        right (Tensor): Which images it classifies correctly, (n,).
        parameters (int, optional): Number of parameters, if it was counted.
        macs (float, optional): Multiply-accumulate operations of one image.
        latency (dict[int, float]): Seconds of a batch, by its size.
        size (int): Bytes of its weights, or of its file.
    """
    right: Tensor
    parameters: Optional[int]
    macs: Optional[float]
    latency: dict
    size: int

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in %."""
        return 100 * self.right.double().mean().item()

    @property
    def interval(self) -> Tuple[float, float]:
        """Its 95 % interval (Wilson) in %."""
        found = binomtest(int(self.right.sum()), len(self.right))
        low, high = found.proportion_ci(method='wilson')
        return 100 * low, 100 * high


@torch.no_grad()
def measure(model: nn.Module, loader: DataLoader) -> Measured:
    """Classify images, and time the network.

    Args:
        model (nn.Module): A classifier with its data preprocessor.
        loader (DataLoader): The images with their labels.
    """
    model.eval()
    right = []
    for batch in loader:
        data = model.data_preprocessor(batch)
        found = model(data['inputs'], mode='tensor').argmax(1).cpu()
        right.append(found == labels_of(data['data_samples']).cpu())
    image = data['inputs'][:1]
    # it logs every operator that it does not count, such as batch norm
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        macs = get_model_complexity_info(
            model, inputs=(image, ), show_table=False,
            show_arch=False)['flops']
    finally:
        logger.setLevel(level)
    return Measured(
        torch.cat(right), sum(p.numel() for p in model.parameters()), macs,
        {size: _latency(model, image, size)
         for size in (1, 32)},
        sum(t.numel() * t.element_size() for t in model.state_dict().values()))


def _latency(model: nn.Module, image: Tensor, size: int) -> float:
    """Median seconds of a forward pass."""
    images = image.expand(size, -1, -1, -1).contiguous()
    seconds = []
    for _ in range(REPEATS if size == 1 else REPEATS // 3):
        start = time.perf_counter()
        model(images, mode='tensor')
        if images.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def mcnemar(one: Tensor, other: Tensor) -> float:
    """The exact paired test: how likely such a difference is by chance.

    Args:
        one (Tensor): Which images one network classifies correctly, (n,).
        other (Tensor): The same of another network.

    Returns:
        float: The two-sided p-value.
    """
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    if not gained + lost:
        return 1.
    return binomtest(gained, gained + lost).pvalue


def verdict(one: Tensor, other: Tensor) -> str:
    """A difference in words: points, images and whether it means anything."""
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    points = 100 * (gained - lost) / len(one)
    p = mcnemar(one, other)
    text = (f'{points:+.2f} points ({gained} images won, {lost} lost, '
            f'p = {p:.2g})')
    return text if p < MEANINGFUL else f'{text}: no difference to speak of'


def milliseconds(seconds: Optional[float]) -> str:
    """A time for a table."""
    return '' if seconds is None else f'{1e3 * seconds:.1f} ms'
