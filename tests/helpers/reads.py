# Copyright (c) sdd_mm contributors. All rights reserved.
"""Notices what reads data back from the device."""
import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    'item', '_local_scalar_dense', 'is_nonzero', 'equal', 'allclose',
    'nonzero', 'nonzero_numpy', 'argwhere', 'masked_select', 'unique',
    '_unique', '_unique2', 'unique_dim', 'unique_consecutive', 'bincount',
    'repeat_interleave'
}


class Recorder(TorchDispatchMode):
    """Notes every operator, and those that read data or index by a mask."""

    def __init__(self):
        super().__init__()
        self.names = []
        self.reads = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.names.append(name)
        if name in READS or name.startswith('index') and any(
                index is not None and index.dtype in (torch.bool, torch.uint8)
                for indices in args[1:2] if isinstance(indices, (list, tuple))
                for index in indices):
            self.reads.append(name)
        return func(*args, **kwargs or {})
