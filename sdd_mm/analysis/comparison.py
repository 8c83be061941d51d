# Copyright (c) sdd_mm contributors. All rights reserved.
"""What an engineer compares: accuracy with its interval, size, latency."""
import statistics
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.logging import MMLogger
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..structures import student_part
from .validation import labels_of

REPEATS = 30
MEANINGFUL = 0.05  # level of the test


class Cost(NamedTuple):
    """What a network costs.

    Args:
        parameters (int, optional): Number of parameters, if it was counted.
        macs (float, optional): Multiply-accumulate operations of one image.
        latency (dict[int, float]): Seconds of a batch, by its size.
        size (int): Bytes of its weights, or of its file.
    """
    parameters: Optional[int]
    macs: Optional[float]
    latency: Dict[int, float]
    size: int


class Measured(NamedTuple):
    """A network on a set of images.

    Args:
        right (Tensor): Which images it classifies correctly, (n,).
        cost (Cost): What it costs.
    """
    right: Tensor
    cost: Cost

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
        data = model.data_preprocessor(
            dict(batch, inputs=student_part(batch['inputs'])))
        found = model(data['inputs']).argmax(1).cpu()
        right.append(found == labels_of(data['data_samples']).cpu())
    return Measured(torch.cat(right), cost_of(model, data['inputs'][:1]))


@torch.no_grad()
def cost_of(model: nn.Module, image: Tensor) -> Cost:
    """Count and time a network.

    Args:
        model (nn.Module): A classifier in eval mode.
        image (Tensor): An image for it, (1, C, H, W).
    """
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
    return Cost(
        sum(p.numel() for p in model.parameters()), macs,
        {size: _latency(model, image, size)
         for size in (1, 32)},
        sum(t.numel() * t.element_size() for t in model.state_dict().values()))


def total(costs: Sequence[Cost]) -> Cost:
    """What networks cost that run one after the other, on one device."""
    parameters, macs, latencies, sizes = zip(*costs)
    return Cost(
        sum(parameters), sum(macs),
        {size: sum(one[size] for one in latencies)
         for size in latencies[0]}, sum(sizes))


def _latency(model: nn.Module, image: Tensor, size: int) -> float:
    """Median seconds of a forward pass."""
    images = image.expand(size, -1, -1, -1).contiguous()
    seconds = []
    for _ in range(REPEATS if size == 1 else REPEATS // 3):
        start = time.perf_counter()
        model(images)
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


HEAD = ('network', 'top-1 (95 % interval)', 'parameters', 'MACs',
        'latency, 1 image', 'latency, 32 images', 'size')


def table(found: Dict[str, Measured]) -> List[List[str]]:
    """``HEAD``, and a row for each network."""
    rows = [list(HEAD)]
    for title, one in found.items():
        (low, high), cost = one.interval, one.cost
        rows.append([
            title, f'{one.accuracy:.1f} % ({low:.1f} to {high:.1f})',
            *(f'{value / 1e6:.{digits}f} M' if value else ''
              for value, digits in ((cost.parameters, 2), (cost.macs, 0))),
            *map(milliseconds, cost.latency.values()),
            f'{cost.size / 2**20:.1f} MiB'
        ])
    return rows


def place(device: str) -> str:
    """How many images and repetitions are behind a table, in words."""
    where = 'the CPU' if device == 'cpu' else (
        'the GPU, of ONNX files on the CPU')
    return (f'Latency on {where}, median of {REPEATS - 2} and '
            f'{REPEATS // 3 - 2}')


def by_class(found: Dict[str, Measured], labels: Tensor,
             names: Sequence[str]) -> List[List[str]]:
    """A row for each class, that of the last network's lowest accuracy first.

    Args:
        found (dict[str, Measured]): Networks on the same images.
        labels (Tensor): The classes of the images, (n,).
        names (Sequence[str]): The names of the classes.

    Returns:
        list[list[str]]: The head, and the rows: class, number of images, and
        accuracy (%) of each network.
    """
    rows = []
    for label in labels.unique().tolist():
        chosen = labels == label
        rows.append((names[label], int(chosen.sum()), [
            100 * one.right[chosen].double().mean().item()
            for one in found.values()
        ]))
    rows.sort(key=lambda row: (row[2][-1], row[0]))
    return [['class', 'images', *found]] + [[
        name, str(count), *(f'{share:.0f}' for share in shares)
    ] for name, count, shares in rows]
