# Copyright (c) sdd_mm contributors. All rights reserved.
"""The outputs of one network for a set of images, cell by cell."""
from dataclasses import dataclass, replace
from typing import Tuple

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """The outputs of one network for n images.

    Args:
        labels (Tensor): Labels of the images, (n,).
        logits (Tensor): Global logits, (n, K).
        cells (Tensor): Predicted classes of the cells, (N, n): scale by scale,
            row-major within a scale.
        shares (Tensor): Softmax of these predictions, (N, n).
        features (Tensor): Average of the feature map, (n, C).
        scales (tuple[int]): The scales of the cells.
        pooling (str): Their pooling. Defaults to 'hierarchical'.
    """
    labels: Tensor
    logits: Tensor
    cells: Tensor
    shares: Tensor
    features: Tensor
    scales: Tuple[int, ...]
    pooling: str = 'hierarchical'

    @property
    def classes(self) -> Tensor:
        """Predicted classes of the images, (n,)."""
        return self.logits.argmax(dim=1)

    @property
    def confidence(self) -> Tensor:
        """Softmax of the predicted classes of the images, (n,)."""
        return self.logits.softmax(dim=1).amax(dim=1)

    @property
    def right(self) -> Tensor:
        """Which images are classified correctly, (n,)."""
        return self.classes == self.labels

    def only(self, index: int) -> 'Outputs':
        """The outputs for one of the images."""
        one = slice(index, index + 1)
        return replace(
            self,
            labels=self.labels[one],
            logits=self.logits[one],
            cells=self.cells[:, one],
            shares=self.shares[:, one],
            features=self.features[one])

    @property
    def compared(self) -> Tensor:
        """The predictions that cells are compared with, (n,).

        As in the loss: with hierarchical pooling those of scale 1, if it is
        one of the scales.
        """
        if self.pooling == 'hierarchical' and 1 in self.scales:
            return self.at(1)[0]
        return self.classes

    def consistent(self, consistency: str) -> Tensor:
        """Which cells are consistent, (N, n).

        Args:
            consistency (str): 'label' or 'class', as in
                ``ScaleDecoupledLoss``.
        """
        if consistency == 'class':
            return self.cells == self.compared
        return (self.cells == self.labels) == (self.compared == self.labels)

    def at(self, scale: int) -> Tensor:
        """Predicted classes of one scale's cells, (scale * scale, n)."""
        return self.split(self.cells)[self.scales.index(scale)]

    def split(self, cells: Tensor) -> Tuple[Tensor, ...]:
        """Split values of cells, (N, n), by scale."""
        return cells.split([m * m for m in self.scales])
