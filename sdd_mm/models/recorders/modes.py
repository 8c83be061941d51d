# Copyright (c) sdd_mm contributors. All rights reserved.
"""Temporary modes of a network."""
from contextlib import contextmanager
from typing import Iterator

import torch
from torch import nn


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Modules without dropout and batch statistics, for a while."""
    training = [
        module for top in modules for module in top.modules()
        if module.training
    ]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def random_weights(head: nn.Module) -> Iterator[None]:
    """A classifier with random weights, for a while.

    Zero or equal rows, as some heads start with, would agree with any map.
    The graph of the forward pass before is left as it is.
    """
    weights = [p for p in head.parameters() if p.ndim > 1]
    kept = [weight.data for weight in weights]
    generator = torch.Generator().manual_seed(0)
    for weight in weights:
        draw = torch.randn(weight.shape, generator=generator)
        weight.data = (draw / weight[0].numel()**0.5).to(weight)
    try:
        yield
    finally:
        for weight, data in zip(weights, kept):
            weight.data = data
