# Copyright (c) sdd_mm contributors. All rights reserved.
"""The row losses write their derivatives out: what follows from that."""
import math
import sys
from itertools import product

import pytest
import torch
from literal.tensors import assert_near
from test_functional.cases import LOSSES, case, on_every_loss
from test_functional.test_criteria import differentiate, make

from sdd_mm.functional import dkd_loss

MODULE = sys.modules[dkd_loss.__module__]


@on_every_loss
def test_blocks_change_nothing(name, monkeypatch):
    inputs, function = make(5, 7, 10), LOSSES[name].function
    for tau in (1., 3.):
        expected = differentiate(function, *inputs, tau=tau)
        for block in (1, 40, 170):
            monkeypatch.setattr(MODULE, 'BLOCK', block)
            with case(tau=tau, block=block):
                for one, other in zip(
                        differentiate(function, *inputs, tau=tau), expected):
                    assert torch.equal(one, other)
        monkeypatch.undo()


@on_every_loss
def test_more_logits_than_one_block_equal_plain(name):
    inputs = make(21, 30, 1000)
    assert inputs[0].numel() > MODULE.BLOCK
    kwargs = dict(tau=4.)
    kwargs.update(
        dict(dkd=dict(alpha=1., beta=8.), kd={}).get(name, dict(gamma=1.5)))
    for actual, expected in zip(
            differentiate(LOSSES[name].function, *inputs, **kwargs),
            differentiate(LOSSES[name].plain, *inputs, **kwargs)):
        assert_near(actual, expected, 1e-13)


@on_every_loss
def test_keeps_one_tensor_of_the_size_of_the_student(name):
    for dtype in (torch.float32, torch.float64):
        student, teacher, labels = make(21, 4, 30)
        student = student.detach().to(dtype).requires_grad_()
        saved = []

        def pack(tensor):
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
            LOSSES[name].function(student, teacher.to(dtype), labels)
        assert [tensor.shape for tensor in saved] == [student.shape]
        assert saved[0].untyped_storage().nbytes() == (
            student.numel() * student.element_size())


@on_every_loss
def test_refuses_a_second_derivative(name):
    student, teacher, labels = make(4, 5)
    loss = LOSSES[name].function(student, teacher, labels).sum()
    with pytest.raises(RuntimeError, match='no second derivative'):
        torch.autograd.grad(loss, student, create_graph=True)


def test_slope_of_a_sure_target():
    # p and q round to 1; their difference is of the size of exp(-margin)
    for dtype, margin in product([torch.float32, torch.float64],
                                 [10., 30., 80.]):
        student = torch.tensor([[margin, 0.]], dtype=dtype, requires_grad=True)
        teacher = torch.tensor([[margin + 1, 0.]], dtype=dtype)
        loss = dkd_loss(student, teacher, torch.tensor([0]), tau=1.)
        gradient, = torch.autograd.grad(loss.sum(), student)
        not_p, not_q = (1 / (1 + math.exp(x)) for x in (margin, margin + 1))
        with case(dtype=dtype, margin=margin):
            assert gradient[0, 0].item() == pytest.approx(
                not_q - not_p, rel=1e-5)
