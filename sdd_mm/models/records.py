# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a recorder yields and a loss asks.

Every record answers ``local_logits(scales, pooling)``, (N, B, K), and
``logits()``, the network's true global logits, (B, K). ``samples(rows)`` is
the record of these samples of the batch, ``num_samples`` their number B,
``num_classes`` the number K.
"""
from dataclasses import dataclass, replace
from typing import Callable, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..functional.local_logits import (check_pooling, check_scales,
                                       global_cell, local_logits, pool_cells)

Rows = Union[slice, Tensor]
"""Which samples: a slice, or their places, (R,)."""


class MapRecord:
    """A record with a ``feature``: the map before global pooling."""

    def logits(self) -> Tensor:
        """The global logits, (B, K) (equations 2 and 3)."""
        return self.local_logits((1, ), 'direct')[0]

    def samples(self, rows: Rows) -> 'MapRecord':
        """The record of some samples."""
        return replace(self, feature=self.feature[rows])

    @property
    def num_samples(self) -> int:
        """The batch size B."""
        return len(self.feature)

    @property
    def pooled(self) -> Tensor:
        """The average of the map, (B, C)."""
        return self.feature.flatten(2).mean(dim=2)

    @property
    def map_size(self) -> Tuple[int, int]:
        """Height and width of the feature map."""
        return tuple(self.feature.shape[-2:])


@dataclass(frozen=True)
class FeatureHead(MapRecord):
    """The feature map before global pooling and the classifier behind it.

    Args:
        feature (Tensor): Feature map before global pooling, (B, C, h, w).
        weight (Tensor): Classifier weight, (K, C).
        bias (Tensor, optional): Classifier bias, (K,). Defaults to None.
    """
    feature: Tensor
    weight: Tensor
    bias: Optional[Tensor] = None

    def local_logits(self,
                     scales: Sequence[int] = (1, 2, 4),
                     pooling: str = 'hierarchical') -> Tensor:
        """Logits of every cell, (N, B, K) (equations 6 and 7)."""
        return local_logits(self.feature, self.weight, self.bias, scales,
                            pooling)

    @property
    def num_classes(self) -> int:
        """The number of classes K."""
        return len(self.weight)


@dataclass(frozen=True)
class RegionHead(MapRecord):
    """A feature map and a tail that is not linear.

    Pooling and the tail do not commute, so the tail runs on every pooled
    cell: a cell's logits are what the network would return for an image whose
    globally pooled feature is the cell's.

    Args:
        feature (Tensor): Feature map before global pooling, (B, C, h, w).
        tail (Callable): Maps pooled features (R, C) to logits (R, K).
        global_logits (Tensor, optional): The network's own global logits,
            (B, K), which differ from the tail's if dropout or batch
            statistics act in training. Defaults to None: the tail's.
    """
    feature: Tensor
    tail: Callable[[Tensor], Tensor]
    global_logits: Optional[Tensor] = None

    def local_logits(self,
                     scales: Sequence[int] = (1, 2, 4),
                     pooling: str = 'hierarchical') -> Tensor:
        """Logits of every cell, (N, B, K)."""
        cells = pool_cells(self.feature, scales, pooling)
        with torch.autocast(cells.device.type, enabled=False):
            rows = self.tail(cells.flatten(0, 1))
        return rows.unflatten(0, cells.shape[:2])

    def logits(self) -> Tensor:
        """The global logits, (B, K)."""
        if self.global_logits is not None:
            return self.global_logits
        return super().logits()

    def samples(self, rows: Rows) -> 'RegionHead':
        """The record of some samples."""
        return replace(
            super().samples(rows),
            global_logits=_select(self.global_logits, rows))

    @property
    def num_classes(self) -> Optional[int]:
        """The number of classes K, None if it is not known yet."""
        if self.global_logits is None:
            return None
        return self.global_logits.shape[1]


@dataclass(frozen=True)
class MeanRecord:
    """The mean of the records of several teachers.

    Args:
        records (tuple): Their records of the same samples.
    """
    records: tuple

    def local_logits(self,
                     scales: Sequence[int] = (1, 2, 4),
                     pooling: str = 'hierarchical') -> Tensor:
        """The mean of the logits of every cell, (N, B, K)."""
        return torch.stack([
            one.local_logits(scales, pooling) for one in self.records
        ]).mean(0)

    def logits(self) -> Tensor:
        """The mean of the global logits, (B, K)."""
        return torch.stack([one.logits() for one in self.records]).mean(0)

    def samples(self, rows: Rows) -> 'MeanRecord':
        """The record of some samples."""
        return MeanRecord(tuple(one.samples(rows) for one in self.records))

    @property
    def pooled(self) -> Tensor:
        """The averages of all maps side by side, (B, C)."""
        return torch.cat([one.pooled for one in self.records], dim=1)

    @property
    def num_samples(self) -> int:
        """The batch size B."""
        return self.records[0].num_samples

    @property
    def num_classes(self) -> Optional[int]:
        """The number of classes K, None if it is not known yet."""
        return self.records[0].num_classes


class LocalLogits:
    """Stored local logits, as a teacher cache yields them.

    Args:
        logits (Tensor): Local logits, (N, B, K).
        scales (tuple[int]): Their scales.
        pooling (str): Their pooling.
        global_logits (Tensor, optional): The network's true global logits,
            (B, K), which the grid need not hold. Defaults to None.

    Raises:
        ValueError: If a shape is not as above.
    """

    def __init__(self,
                 logits: Tensor,
                 scales: Sequence[int],
                 pooling: str,
                 global_logits: Optional[Tensor] = None) -> None:
        self.scales = check_scales(scales)
        self.pooling = check_pooling(pooling)
        cells = sum(m * m for m in self.scales)
        if logits.ndim != 3 or logits.shape[0] != cells:
            raise ValueError(
                f'local logits of scales {self.scales} must have shape '
                f'({cells}, B, K), got {tuple(logits.shape)}')
        if (global_logits is not None
                and global_logits.shape != logits.shape[1:]):
            raise ValueError(
                f'global_logits must have shape {tuple(logits.shape[1:])}, '
                f'got {tuple(global_logits.shape)}')
        self._logits = logits
        self.global_logits = global_logits

    def local_logits(self,
                     scales: Sequence[int] = (1, 2, 4),
                     pooling: str = 'hierarchical') -> Tensor:
        """The local logits, (N, B, K).

        Raises:
            ValueError: If they are those of another grid.
        """
        if (tuple(scales), pooling) != (self.scales, self.pooling):
            raise ValueError(
                f'the record holds local logits of scales {self.scales} with '
                f'{self.pooling} pooling, but the loss asks for scales '
                f'{tuple(scales)} with {pooling} pooling')
        return self._logits

    def logits(self) -> Tensor:
        """The global logits, (B, K).

        Raises:
            ValueError: If they were not given and the grid does not hold
                them: without scale 1, or under hierarchical pooling, whose
                coarsest cell is not the global average on every map.
        """
        if self.global_logits is not None:
            return self.global_logits
        if self.pooling != 'direct' or 1 not in self.scales:
            raise ValueError(
                f'local logits of scales {self.scales} with {self.pooling} '
                'pooling do not hold the global logits: give global_logits, '
                'or record scale 1 with direct pooling')
        return self._logits[global_cell(self.scales)]

    def samples(self, rows: Rows) -> 'LocalLogits':
        """The record of some samples."""
        return LocalLogits(self._logits[:, rows], self.scales, self.pooling,
                           _select(self.global_logits, rows))

    @property
    def num_samples(self) -> int:
        """The batch size B."""
        return self._logits.shape[1]

    @property
    def num_classes(self) -> int:
        """The number of classes K."""
        return self._logits.shape[2]


def _select(tensor: Optional[Tensor], rows: Rows) -> Optional[Tensor]:
    return None if tensor is None else tensor[rows]
