# Copyright (c) sdd_mm contributors. All rights reserved.
"""Feature maps and classifiers of given sizes, and SDD's loss on them."""
from dataclasses import dataclass, replace
from typing import Callable, Tuple

import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
import torch
from torch import Tensor

from sdd_mm import FeatureHead
from sdd_mm.models.losses import ScaleDecoupledLoss

from . import plain

CRITERIA = tuple(plain.ROWS)


@dataclass(frozen=True)
class Shape:
    """Sizes of one loss: batch, classes, map, channels and scales."""
    batch: int = 64
    classes: int = 100
    side: int = 8
    student: int = 256
    teacher: int = 256
    scales: Tuple[int, ...] = (1, 2, 4)

    @property
    def cells(self) -> int:
        return sum(m * m for m in self.scales)

    @property
    def logit_bytes(self) -> int:
        """Bytes of one float32 tensor of local logits."""
        return 4 * self.cells * self.batch * self.classes

    def small(self) -> 'Shape':
        """The same kind of shape, for a trial."""
        return replace(self, batch=2, classes=5, student=4, teacher=6)


CIFAR = Shape()
IMAGENET = Shape(batch=256, classes=1000, side=7, student=512, teacher=512)
IMAGENET_WIDE = replace(IMAGENET, student=1024, teacher=2048)


class Loss:
    """SD-KD, SD-DKD or SD-NKD from feature maps, ours and the plain writing.

    Both take the same tensors and return the loss and its gradients with
    respect to the student's map, weight and bias.
    """

    def __init__(self, shape: Shape, criterion: str, device: str) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*sizes: int) -> Tensor:
            return torch.randn(sizes, generator=generator)

        def head(channels: int):
            # as after a ReLU, and logits of a few units
            feature = draw(shape.batch, channels, shape.side,
                           shape.side).relu()
            weight = draw(shape.classes, channels) * 4 / channels**0.5
            return [
                x.to(device) for x in (feature, weight, draw(shape.classes))
            ]

        self.shape = shape
        self.student = [x.requires_grad_() for x in head(shape.student)]
        self.teacher = head(shape.teacher)
        self.target = torch.randint(
            shape.classes, (shape.batch, ), generator=generator).to(device)
        self.module = ScaleDecoupledLoss(
            dict(type=f'{criterion}Criterion'), scales=shape.scales).to(device)
        self.plain_rows = plain.ROWS[criterion]

    def ours(self) -> Tensor:
        """The project's loss module on its records."""
        return self.module(
            FeatureHead(*self.student), FeatureHead(*self.teacher),
            self.target)

    def plain(self) -> Tensor:
        """The plain writing."""
        scales = self.shape.scales
        with torch.no_grad():
            teacher = plain.local_logits(*self.teacher, scales)
        student = plain.local_logits(*self.student, scales)
        return plain.scale_decoupled(student, teacher, self.target,
                                     self.plain_rows)

    def step(self, whose: str):
        """Forward and backward of one of the two: value and gradients."""
        value = getattr(self, whose)()
        return value.detach(), torch.autograd.grad(value, self.student)

    def difference(self) -> float:
        """Largest difference of value and gradients, each relative to its
        largest entry."""
        ours, plainly = self.step('ours'), self.step('plain')
        pairs = zip((ours[0], *ours[1]), (plainly[0], *plainly[1]))
        return max(
            ((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)

    def rows(self, whose: str) -> Callable[[], Tensor]:
        """A row loss alone, of local logits whose student's are a leaf."""
        student, teacher = (
            plain.local_logits(*head, self.shape.scales).detach()
            for head in (self.student, self.teacher))
        student.requires_grad_()
        target = self.target.expand(student.shape[:2])
        rows = self.module.criterion if whose == 'ours' else self.plain_rows
        return lambda: rows(student, teacher, target)
