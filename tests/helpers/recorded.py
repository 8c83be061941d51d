# Copyright (c) sdd_mm contributors. All rights reserved.
"""The recorded values of the baselines, by method and case."""
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).parents[1] / 'data' / 'baseline_values.npz'
VALUES = np.load(FILE)


def cases(method):
    """Names of the cases of a method."""
    return sorted({
        key.split('/')[1]
        for key in VALUES.files if key.startswith(f'{method}/')
    })


class Case:
    """What was recorded under a name such as ``rkd/b2`` or below it.

    ``case['in/feature_s']`` is a tensor, ``case['out/value']`` too.
    """

    def __init__(self, name):
        self.name = name

    def __getitem__(self, key):
        return torch.from_numpy(np.array(VALUES[f'{self.name}/{key}']))

    def __contains__(self, key):
        return f'{self.name}/{key}' in VALUES.files

    def below(self, prefix):
        """All tensors whose key begins so, by the rest of the key."""
        start = f'{self.name}/{prefix}/'
        return {
            key[len(start):]: self[key[len(self.name) + 1:]]
            for key in VALUES.files if key.startswith(start)
        }

    def leaves(self, *keys):
        """Inputs that want a gradient."""
        return [self[f'in/{key}'].requires_grad_() for key in keys]

    def features(self, side):
        """The maps of a side, ``s`` or ``t``, from shallow to deep."""
        found = self.below('in')
        return [
            found[key] for key in sorted(found)
            if key.startswith(f'feature_{side}')
        ]


def assert_recorded(actual, recorded, tolerance=1e-9):
    """Values within 1e-9 of the largest; gradients ask for 1e-6.

    The gradient of a bias before a BatchNorm is 0 up to 1e-15.
    """
    assert actual.shape == recorded.shape
    torch.testing.assert_close(
        actual.detach(),
        recorded,
        rtol=0,
        atol=tolerance * recorded.abs().max().item() + 1e-15)


def assert_gradients(module, recorded):
    """The gradients of a module's parameters, by name."""
    found = dict(module.named_parameters())
    assert recorded
    for name, gradient in recorded.items():
        assert_recorded(found[name].grad, gradient, 1e-6)
