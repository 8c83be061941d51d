# Copyright (c) sdd_mm contributors. All rights reserved.
"""A step reads nothing back from the device, and no shape needs its data."""
from functools import partial

import pytest
import torch
from reads import Recorder

from sdd_mm.functional import (closed_dkd_loss, closed_kd_loss,
                               closed_nkd_loss, dkd_loss, kd_loss,
                               local_logits, nkd_loss, scale_decoupled_loss)


def kd(student, teacher, label, loss=kd_loss):
    """KD, which has no use for the label."""
    return loss(student, teacher)


CRITERIA = {
    'kd': kd,
    'dkd': dkd_loss,
    'nkd': nkd_loss,
    'nkd-kept': partial(nkd_loss, keep_target=True),
    'closed-kd': partial(kd, loss=closed_kd_loss),
    'closed-dkd': closed_dkd_loss,
    'closed-nkd': closed_nkd_loss,
    'closed-kept': partial(closed_nkd_loss, keep_target=True, tau=2.)
}
FIDELITIES = {
    'reference': ('hierarchical', 'label', 'mean'),
    'paper': ('direct', 'class', 'sum'),
}


def step(criterion, fidelity, soft, device='cpu'):
    """One loss and its gradients, from two networks' feature maps."""

    def make(*shape):
        return torch.rand(shape, device=device)

    student = [make(2, 3, 5, 7), make(4, 3), make(4)]
    for tensor in student:
        tensor.requires_grad_()
    teacher = make(2, 5, 7, 7), make(4, 5), make(4)
    labels = torch.zeros(2, dtype=torch.long, device=device)
    pooling, *weighting = FIDELITIES[fidelity]
    loss = scale_decoupled_loss(
        local_logits(*student, pooling=pooling),
        local_logits(*teacher, pooling=pooling),
        make(2, 4) if soft else labels, CRITERIA[criterion], 1., 2.,
        *weighting)
    loss.backward()
    return loss, student


def on_every_step(test):
    """Run ``test`` for every criterion, fidelity and kind of target."""
    for name, values in [('soft', [True, False]), ('fidelity', FIDELITIES),
                         ('criterion', CRITERIA)]:
        test = pytest.mark.parametrize(name, values)(test)
    return test


@on_every_step
def test_reads_nothing_back(criterion, fidelity, soft):
    with Recorder() as recorder:
        _, student = step(criterion, fidelity, soft)
    assert all(tensor.grad is not None for tensor in student)
    # it did see the forward and the backward pass
    assert {'exp', '_log_softmax'} & set(recorder.names)
    assert recorder.names.count('mm') > 4
    assert recorder.reads == []


@on_every_step
def test_runs_without_data(criterion, fidelity, soft):
    loss, student = step(criterion, fidelity, soft, device='meta')
    assert loss.shape == ()
    for tensor in student:
        assert tensor.grad.shape == tensor.shape


@pytest.mark.parametrize('read', [
    lambda tensor: tensor.sum().item(),
    lambda tensor: bool(tensor.isnan().any()),
    lambda tensor: tensor[tensor > 0],
    lambda tensor: tensor.masked_select(tensor > 0),
    lambda tensor: (tensor > 0).nonzero(),
    lambda tensor: tensor.unique(),
    lambda tensor: tensor.equal(tensor),
    lambda tensor: tensor.clone().index_put_((tensor > 0, ), tensor.sum()),
])
def test_recorder_notices(read):
    with Recorder() as recorder:
        read(torch.rand(4))
    assert recorder.reads


def test_recorder_allows_static_indexing():
    with Recorder() as recorder:
        torch.rand(4)[torch.tensor([0, 2])]
        torch.rand(2, 4).gather(1, torch.zeros(2, 1, dtype=torch.long))
    assert recorder.reads == []
