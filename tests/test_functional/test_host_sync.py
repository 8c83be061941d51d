# Copyright (c) sdd_mm contributors. All rights reserved.
"""A step reads nothing back from the device, and no shape needs its data."""
from itertools import product

import torch
from reads import Recorder
from test_functional.cases import FIDELITIES, LOSSES, case, on_every_loss

from sdd_mm.functional import local_logits, scale_decoupled_loss


def step(name, fidelity, soft, device='cpu'):
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
        make(2, 4) if soft else labels, LOSSES[name].function, 1., 2.,
        *weighting)
    loss.backward()
    return loss, student


@on_every_loss
def test_reads_nothing_back(name):
    for fidelity, soft in product(FIDELITIES, [True, False]):
        with case(fidelity=fidelity, soft=soft):
            with Recorder() as recorder:
                _, student = step(name, fidelity, soft)
            assert all(tensor.grad is not None for tensor in student)
            # it did see the forward and the backward pass
            assert {'exp', '_log_softmax'} & set(recorder.names)
            assert recorder.names.count('mm') > 4
            assert recorder.reads == []


@on_every_loss
def test_runs_without_data(name):
    for fidelity, soft in product(FIDELITIES, [True, False]):
        with case(fidelity=fidelity, soft=soft):
            loss, student = step(name, fidelity, soft, device='meta')
            assert loss.shape == ()
            for tensor in student:
                assert tensor.grad.shape == tensor.shape


def test_recorder_notices_reads():
    for i, read in enumerate([
            lambda tensor: tensor.sum().item(),
            lambda tensor: bool(tensor.isnan().any()),
            lambda tensor: tensor[tensor > 0],
            lambda tensor: tensor.masked_select(tensor > 0),
            lambda tensor: (tensor > 0).nonzero(),
            lambda tensor: tensor.unique(),
            lambda tensor: tensor.equal(tensor),
            lambda tensor: tensor.clone().index_put_(
                (tensor > 0, ), tensor.sum()),
    ]):
        with Recorder() as recorder:
            read(torch.rand(4))
        assert recorder.reads, i


def test_recorder_allows_static_indexing():
    with Recorder() as recorder:
        torch.rand(4)[torch.tensor([0, 2])]
        torch.rand(2, 4).gather(1, torch.zeros(2, 1, dtype=torch.long))
    assert recorder.reads == []
