# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student whose weights and maps are laid out channels last."""
from typing import List

import torch
from mmengine.device import get_device
from torch import nn

SMALLEST = 8  # input channels from which the gradient is right


def wrong_gradients(model: nn.Module) -> List[str]:
    """Layers whose weight gradient a CPU gets wrong channels last.

    Up to torch 2.15, oneDNN's AVX2 kernel for the weight gradient of a 1 x 1
    convolution with a stride and fewer than 8 input channels returns wrong
    numbers, corrupts memory, or never returns
    (``tests/upstream/channels_last_1x1.py``).

    Args:
        model (nn.Module): A network.

    Returns:
        list[str]: The names of these convolutions in the network.
    """
    return [
        name for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} and
        max(layer.stride) > 1 and layer.in_channels // layer.groups < SMALLEST
    ]


def check_channels_last(student: nn.Module) -> None:
    """Refuse channels last where it would train on wrong gradients.

    Args:
        student (nn.Module): The student.

    Raises:
        ValueError: If it has such a layer and trains on a CPU, or if it
            convolves clips.
    """
    if any(isinstance(layer, nn.Conv3d) for layer in student.modules()):
        raise ValueError(
            'model.student_channels_last lays out images, the student '
            f'{type(student).__name__} convolves clips: set it to False, or '
            'remove ChannelsLastHook')
    found = wrong_gradients(student)
    if found and get_device() == 'cpu':
        raise ValueError(
            f'model.student_channels_last: the CPU kernel for the weight '
            f'gradient of {", ".join(found)} of the student '
            f'{type(student).__name__} (1 x 1, with a stride, fewer than '
            f'{SMALLEST} input channels) is wrong channels last: set it to '
            'False, or remove ChannelsLastHook')


def lay_out(student: nn.Module, channels_last: bool) -> None:
    """Lay out the weights of a student one way or the other."""
    student.to(memory_format=torch.channels_last if channels_last else torch.
               contiguous_format)
