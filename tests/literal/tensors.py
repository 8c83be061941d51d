# Copyright (c) sdd_mm contributors. All rights reserved.
"""Scalars out of a tensor, and the distance of two tensors."""
import torch
from torch import Tensor


def scalars(tensor: Tensor):
    """A tensor as nested lists of scalar tensors; gradients pass through.

    They are floats, which is faster, if no gradient is wanted.
    """
    if not tensor.requires_grad:
        return tensor.tolist()
    if tensor.ndim == 0:
        return tensor
    return [scalars(part) for part in tensor.unbind()]


def stacked(nested) -> Tensor:
    """Nested lists of scalars as one tensor: undoes ``scalars``."""
    if isinstance(nested, Tensor):
        return nested
    if isinstance(nested, float):
        return torch.tensor(nested, dtype=torch.float64)
    return torch.stack([stacked(part) for part in nested])


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-10):
    """Every entry within ``tolerance`` of the largest expected entry."""
    torch.testing.assert_close(
        actual,
        expected,
        rtol=0,
        atol=tolerance * expected.abs().max().item(),
        check_dtype=False)
