# Copyright (c) sdd_mm contributors. All rights reserved.
"""Any tensor gives a right value or a documented error.

    python -m pytest --long tests/test_functional/test_fuzz.py   # 6,000 cases
"""
from decimal import Decimal, getcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_functional.cases import LOSSES
from test_functional.test_pooling import pooled

from sdd_mm.functional import local_logits
from sdd_mm.functional.local_logits import pool_cells

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SPREADS = (0., 1e-3, 1., 30., 1e3, 1e4)
PARAMETERS = {
    'kd': {},
    'dkd': dict(alpha=1, beta=8),
    'nkd': dict(gamma=2),
    'nkd-kept': dict(gamma=2)
}
# not to underflow where float64 does
getcontext().Emin, getcontext().prec = -10**8, 30


def fuzz(request, test, *strategies):
    """A few hundred cases, thousands with --long."""
    cases = 3000 if request.config.getoption('--long') else 300
    settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck))(given(*strategies)(test))()


def laid_out(draw, tensor):
    """The same numbers in another memory layout."""
    kind = draw(st.sampled_from(['as is', 'transposed', 'sliced', 'flipped']))
    if kind == 'transposed' and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == 'sliced':
        return torch.stack([tensor, tensor], -1)[..., 0]
    if kind == 'flipped':
        return tensor.flip(-1).flip(-1)
    return tensor


def numbers(draw, shape, dtype):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from(SPREADS))
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
    return laid_out(draw, (tensor * spread).to(dtype))


@st.composite
def rows(draw):
    """A row loss and what it is called with."""
    batch = draw(st.sampled_from([(), (0, ), (1, ), (3, ), (2, 2), (2, 0)]))
    classes = draw(st.sampled_from([1, 2, 2, 3, 5, 8]))
    dtype = draw(st.sampled_from(DTYPES))
    student, teacher = (
        numbers(draw, (*batch, classes), draw(st.sampled_from([dtype, dtype])))
        for _ in range(2))
    label = torch.randint(
        classes,
        batch,
        generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    if draw(st.integers(0, 9)) == 0:
        teacher = numbers(draw, (*batch, classes + 1), dtype)
    tau = draw(st.sampled_from([1., 1., 4., 0.5, 0., -1., float('inf')]))
    return draw(st.sampled_from(list(LOSSES))), student, teacher, label, tau


def decimals(row):
    return [Decimal(value) for value in row.double().tolist()]


def literally(name, student, teacher, label, tau):
    """One row, in 30 digits."""
    return LOSSES[name].literal(
        decimals(student),
        decimals(teacher),
        label,
        tau=Decimal(tau),
        **PARAMETERS[name])


def test_row_losses(request):

    def test(case):
        name, student, teacher, label, tau = case
        student = student.detach().requires_grad_()
        kwargs = dict(PARAMETERS[name], tau=tau)

        def loss():
            return LOSSES[name].function(student, teacher, label, **kwargs)

        wrong = (
            student.shape != teacher.shape or student.shape[-1] < 2
            or not 0 < tau < float('inf'))
        if wrong:
            with pytest.raises(ValueError):
                loss()
            return
        found = loss()
        grad, = torch.autograd.grad(found.sum(), student)
        assert found.shape == student.shape[:-1]
        assert found.dtype == torch.promote_types(student.dtype, torch.float32)
        assert grad.dtype == student.dtype and grad.shape == student.shape
        assert found.isfinite().all()
        # half precision has no number for tau (p - q) beyond it
        assert grad.isfinite().all()
        if student.numel() == 0:
            return
        # rounding is relative to the logits that the loss is made of
        weight = 8 * max(tau, tau**2)
        size = 1 + student.abs().max().item() + teacher.abs().max().item()
        eps = torch.finfo(found.dtype).eps
        wide = student.detach().double().requires_grad_()
        rows = LOSSES[name].plain(wide, teacher.double(), label, **kwargs)
        torch.testing.assert_close(
            grad.double(),
            torch.autograd.grad(rows.sum(), wide)[0],
            rtol=max(200 * eps,
                     torch.finfo(grad.dtype).eps),
            atol=20 * eps * size * weight)
        flat = student.detach().flatten(
            0, -2) if student.ndim > 1 else (student.detach()[None])
        for one, other, y, value in zip(flat, teacher.reshape(flat.shape),
                                        label.reshape(-1), found.reshape(-1)):
            expected = float(literally(name, one, other, int(y), tau))
            size = 1 + one.abs().max().item() + other.abs().max().item()
            assert value.item() == pytest.approx(
                expected, rel=200 * eps, abs=20 * eps * size * weight)

    fuzz(request, test, rows())


@st.composite
def maps(draw):
    """A feature map and a classifier."""
    batch = draw(st.sampled_from([0, 1, 2]))
    channels = draw(st.sampled_from([1, 3, 4]))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(DTYPES))
    feature = numbers(draw, (batch, channels, *size), dtype)
    if draw(st.booleans()):
        feature = feature.contiguous(memory_format=torch.channels_last)
    classes = draw(st.integers(1, 4))
    weight = numbers(draw, (classes, channels), dtype)
    bias = numbers(draw, (classes, ), dtype) if draw(st.booleans()) else None
    if draw(st.integers(0, 9)) == 0:
        weight = numbers(draw, (classes, channels + 1), dtype)
    scales = draw(
        st.one_of(
            st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
            st.sampled_from([(), (0, ), (-1, 2), (1.5, ), 4, ('1', ),
                             (True, )])))
    pooling = draw(st.sampled_from(['hierarchical', 'direct', 'max']))
    return feature, weight, bias, scales, pooling


def test_local_logits(request):

    def test(case):
        feature, weight, bias, scales, pooling = case
        wrong = pooling == 'max' or not (isinstance(scales, tuple) and scales
                                         and all(
                                             type(m) is int and m > 0
                                             for m in scales))
        if not wrong:
            cells = pooled(feature.double(), scales, pooling)
            found = pool_cells(feature, scales, pooling)
            eps = torch.finfo(found.dtype).eps
            largest = feature.double().abs().max().item() if len(
                feature) else 0.
            torch.testing.assert_close(
                found.double(), cells, rtol=0, atol=20 * eps * largest)
        if wrong or weight.shape[1] != feature.shape[1]:
            with pytest.raises(ValueError):
                local_logits(feature, weight, bias, scales, pooling)
            return
        found = local_logits(feature, weight, bias, scales, pooling)
        wide = torch.promote_types(feature.dtype, torch.float32)
        assert found.dtype == wide
        expected = F.linear(cells, weight.double(),
                            None if bias is None else bias.double())
        size = largest * weight.double().abs().max().item() * weight.shape[1]
        size += 0. if bias is None else bias.double().abs().max().item()
        torch.testing.assert_close(
            found.double(), expected, rtol=0, atol=50 * eps * size)

    fuzz(request, test, maps())
