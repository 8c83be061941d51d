# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Sequence

from mmrazor.models.architectures.connectors.base_connector import \
    BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ConvRegressor(BaseConnector):
    """FitNet's regressor: a convolution, BatchNorm and ReLU.

    The convolution depends on the heights h of the student's and H of the
    teacher's map, as in the literature's code:

    - h = 2 H: 3 x 3 with stride 2;
    - 2 h = H: transposed, 4 x 4 with stride 2;
    - h >= H: without padding, of the size that leaves H x W, which is 1 x 1
      if the sizes are equal;
    - else 3 x 3. ``HintLoss`` averages the teacher's map to the size of the
      student's (the rule of Chen et al., AAAI 2021).

    Weights start with torch's defaults.

    Args:
        student_shape (Sequence[int]): Channels, height and width of the
            student's map, (C, h, w).
        teacher_shape (Sequence[int]): Those of the teacher's, (C, H, W).

    Raises:
        ValueError: If the widths do not follow the rule of the heights.

    Examples:
        >>> # in a config
        >>> connectors = dict(
        ...     hint=dict(
        ...         type='ConvRegressor',
        ...         student_shape=(16, 8, 8),
        ...         teacher_shape=(128, 16, 16)))
    """

    def __init__(self, student_shape: Sequence[int],
                 teacher_shape: Sequence[int]) -> None:
        super().__init__()
        channels, *size = student_shape
        out_channels, *out_size = teacher_shape
        self.conv = convolution(channels, out_channels, tuple(size),
                                tuple(out_size))
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward_train(self, feature: Tensor) -> Tensor:
        """The student's map in the teacher's shape."""
        return self.relu(self.bn(self.conv(feature)))


def convolution(channels: int, out_channels: int, size: tuple,
                out_size: tuple) -> nn.Module:
    """The convolution from one size to the other."""
    ratios = {(a > b) - (a < b) for a, b in zip(size, out_size)}
    if len(size) != 2 or len(out_size) != 2 or {1, -1} <= ratios:
        raise ValueError(
            'ConvRegressor needs maps of which one is the larger, got '
            f'student_shape (C, h, w) with size {size} and teacher_shape with '
            f'size {out_size}')
    if size == tuple(2 * side for side in out_size):
        return nn.Conv2d(channels, out_channels, 3, 2, 1)
    if tuple(2 * side for side in size) == out_size:
        return nn.ConvTranspose2d(channels, out_channels, 4, 2, 1)
    if -1 in ratios:
        return nn.Conv2d(channels, out_channels, 3, 1, 1)
    kernel = [1 + side - out for side, out in zip(size, out_size)]
    return nn.Conv2d(channels, out_channels, kernel)
