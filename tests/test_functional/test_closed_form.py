# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the closed forms promise beyond the values of the plain ones.

Values, gradients, refusals, precision and host reads are tested with those of
the plain functions.
"""
import math
from functools import partial

import pytest
import torch
from literal.tensors import assert_near

from sdd_mm.functional import (closed_dkd_loss, closed_form, closed_kd_loss,
                               closed_nkd_loss, dkd_loss, kd_loss, nkd_loss)


def ignoring_label(function):
    """``function`` with a label that it has no use for."""

    def wrapped(student, teacher, label, **kwargs):
        return function(student, teacher, **kwargs)

    return wrapped


FORMS = {
    'kd': (ignoring_label(closed_kd_loss), ignoring_label(kd_loss)),
    'dkd': (closed_dkd_loss, dkd_loss),
    'nkd': (closed_nkd_loss, nkd_loss),
    'nkd-kept': [
        partial(function, keep_target=True)
        for function in (closed_nkd_loss, nkd_loss)
    ],
}
on_every_form = pytest.mark.parametrize('name', FORMS)


def make(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = 2 * torch.randn(
        2, *shape, generator=generator, dtype=dtype)
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    return student.requires_grad_(), teacher, labels


def differentiate(function, student, teacher, labels, **kwargs):
    """Losses, and gradients under unequal weights of the rows."""
    rows = function(student, teacher, labels, **kwargs)
    weights = torch.linspace(
        -1, 2, rows.numel(), dtype=rows.dtype).view(rows.shape)
    return rows, torch.autograd.grad(rows, student, weights)[0]


@on_every_form
@pytest.mark.parametrize('tau', [0.5, 1., 4.])
@pytest.mark.parametrize('classes', [2, 3, 50])
def test_equals_plain(classes, tau, name):
    inputs = make(3, 7, classes)
    closed, plain = FORMS[name]
    for actual, expected in zip(
            differentiate(closed, *inputs, tau=tau),
            differentiate(plain, *inputs, tau=tau)):
        assert_near(actual, expected, 1e-14)


@on_every_form
@pytest.mark.parametrize('tau', [1., 3.])
def test_blocks_change_nothing(tau, name, monkeypatch):
    inputs, (closed, _) = make(5, 7, 10), FORMS[name]
    expected = differentiate(closed, *inputs, tau=tau)
    for block in (1, 40, 170):
        monkeypatch.setattr(closed_form, 'BLOCK', block)
        for one, other in zip(
                differentiate(closed, *inputs, tau=tau), expected):
            assert torch.equal(one, other)


@on_every_form
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_keeps_one_tensor_of_the_size_of_the_student(dtype, name):
    student, teacher, labels = make(21, 4, 30, dtype=dtype)
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        FORMS[name][0](student, teacher, labels)
    assert [tensor.shape for tensor in saved] == [student.shape]
    assert saved[0].untyped_storage().nbytes() == (
        student.numel() * student.element_size())


@on_every_form
def test_inputs_are_left_alone(name):
    student, teacher, labels = make(3, 4, 5)
    before = [tensor.detach().clone() for tensor in (student, teacher, labels)]
    differentiate(FORMS[name][0], student, teacher, labels)
    for one, other in zip((student, teacher, labels), before):
        assert torch.equal(one, other)


@on_every_form
def test_inputs_in_any_memory_layout(name):
    student, teacher, labels = make(3, 4, 5)
    expected = differentiate(FORMS[name][0], student, teacher, labels)
    other = [
        tensor.detach().transpose(0, 2).contiguous().transpose(0, 2)
        for tensor in (student, teacher)
    ]
    other = other[0].requires_grad_(), other[1], labels.T.contiguous().T
    assert not any(tensor.is_contiguous() for tensor in other)
    for one, two in zip(differentiate(FORMS[name][0], *other), expected):
        assert torch.equal(one, two)


@on_every_form
def test_no_gradient_flows_into_the_teacher(name):
    student, teacher, labels = make(4, 5)
    teacher.requires_grad_()
    rows = FORMS[name][0](student, teacher, labels)
    rows.sum().backward()
    assert teacher.grad is None and student.grad is not None


@on_every_form
def test_without_a_student_to_train(name):
    student, teacher, labels = make(4, 5)
    expected = FORMS[name][0](student, teacher, labels).detach()
    rows = FORMS[name][0](student.detach(), teacher, labels)
    assert not rows.requires_grad and torch.equal(rows, expected)
    with torch.no_grad():
        assert torch.equal(FORMS[name][0](student, teacher, labels), expected)
    with torch.inference_mode():
        assert torch.equal(FORMS[name][0](student, teacher, labels), expected)


@on_every_form
def test_backward_twice_and_second_derivative(name):
    student, teacher, labels = make(4, 5)
    loss = FORMS[name][0](student, teacher, labels).sum()
    first, = torch.autograd.grad(loss, student, retain_graph=True)
    again, = torch.autograd.grad(loss, student, retain_graph=True)
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match='no second derivative: take'):
        torch.autograd.grad(loss, student, create_graph=True)


@on_every_form
def test_no_rows(name):
    student, teacher, labels = make(0, 5)
    rows = FORMS[name][0](student, teacher, labels)
    assert rows.shape == (0, )
    rows.sum().backward()
    assert student.grad.shape == (0, 5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('margin', [10., 30., 80.])
def test_dkd_slope_of_a_sure_target(margin, dtype):
    # p and q round to 1; their difference is of the size of exp(-margin)
    student = torch.tensor([[margin, 0.]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[margin + 1, 0.]], dtype=dtype)
    loss = closed_dkd_loss(student, teacher, torch.tensor([0]), tau=1.)
    gradient, = torch.autograd.grad(loss.sum(), student)
    not_p, not_q = 1 / (1 + math.exp(margin)), 1 / (1 + math.exp(margin + 1))
    assert gradient[0, 0].item() == pytest.approx(not_q - not_p, rel=1e-5)


@on_every_form
@pytest.mark.long
def test_compiles_in_one_graph(name):
    student, teacher, labels = make(6, 5)
    closed = FORMS[name][0]
    compiled = torch.compile(closed, backend='aot_eager', fullgraph=True)
    for one, other in zip(
            differentiate(compiled, student, teacher, labels),
            differentiate(closed, student, teacher, labels)):
        assert_near(one, other, 1e-14)
