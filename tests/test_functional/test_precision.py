# Copyright (c) sdd_mm contributors. All rights reserved.
"""Half precision, autocast, and logits large enough to saturate a softmax."""
from decimal import Decimal, localcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from literal import row_losses
from literal.tensors import assert_near
from toy import skip_without_autocast

from sdd_mm.functional import (cell_weights, closed_dkd_loss, closed_kd_loss,
                               closed_nkd_loss, dkd_loss, kd_loss,
                               local_logits, nkd_loss, scale_decoupled_loss)


def ignoring_label(function):
    """``function`` with a label that it has no use for."""

    def wrapped(student, teacher, label, **kwargs):
        return function(student, teacher, **kwargs)

    return wrapped


kd, literal_kd = ignoring_label(kd_loss), ignoring_label(row_losses.kd)

# Loss, the same in the equations' words, and whole parameters.
CRITERIA = {
    'kd': (kd, literal_kd, dict(tau=4)),
    'kd-1': (kd, literal_kd, dict(tau=1)),
    'dkd': (dkd_loss, row_losses.dkd, dict(alpha=1, beta=8, tau=4)),
    'dkd-1': (dkd_loss, row_losses.dkd, dict(alpha=1, beta=2, tau=1)),
    'nkd': (nkd_loss, row_losses.nkd, dict(gamma=2, tau=1)),
    'nkd-4': (nkd_loss, row_losses.nkd, dict(gamma=8, tau=4)),
    'nkd-kept':
    (nkd_loss, row_losses.nkd, dict(gamma=8, tau=4, keep_target=True)),
}
CLOSED = {
    kd: ignoring_label(closed_kd_loss),
    dkd_loss: closed_dkd_loss,
    nkd_loss: closed_nkd_loss
}
for name, (function, slow, parameters) in list(CRITERIA.items()):
    CRITERIA[f'closed-{name}'] = CLOSED[function], slow, parameters
FIDELITIES = {
    'reference': ('hierarchical', 'label', 'mean'),
    'paper': ('direct', 'class', 'sum'),
}
HALVES = [torch.float16, torch.bfloat16]

# Rows of logits of four classes; the label is class 1.
MODERATE = [[0.5, -1., 2., 0.25], [-2., 1.5, 0., 1.]]
EXTREME = {
    'target': [[-1e4, 1e4, 0., 5e3], [0., 1e4, 0., 0.]],
    'other': [[1e4, -1e4, 0., 5e3], [0., 0., 0., 1e4]],
    'all-large': [[1e4, 1e4, 1e4, 1e4], [-1e4, -1e4, -1e4, 1e4]],
    'fifty': [[0., 50., 10., 20.], [50., 0., 20., 10.]],
    'thousand': [[0., 1e3, 10., 2e2], [1e3, 0., 2e2, 1e3]],
    'offset': [[1e4 + 8, 1e4, 1e4 + 16, 1e4 - 8],
               [8 - 1e4, -1e4, 8 - 1e4, -1e4]],
    'mixed': [[1e4, -1e4, 0., 5e3], [0.25, 1., -0.5, 0.]],
}
PAIRS = {'none-none': (MODERATE, MODERATE[::-1])}
for name, rows in EXTREME.items():
    PAIRS[f'{name}-none'] = rows, MODERATE
    PAIRS[f'none-{name}'] = MODERATE, rows
    for other in EXTREME:
        PAIRS[f'{name}-{other}'] = rows, EXTREME[other]


def networks(dtype=torch.float32):
    """Feature maps, weights and biases of two networks, and labels."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = ([
        torch.randn(shape, generator=generator).to(dtype)
        for shape in [(3, channels, 7, 5), (10, channels), (10, )]
    ] for channels in (16, 32))
    for tensor in student:
        tensor.requires_grad_()
    return student, teacher, torch.tensor([4, 0, 9])


def forward(inputs, criterion, fidelity):
    """Local logits, weights and loss."""
    student, teacher, labels = inputs
    function, _, parameters = CRITERIA[criterion]
    row_loss = partial(function, **parameters)
    pooling, *weighting = FIDELITIES[fidelity]
    logits = [
        local_logits(*network, pooling=pooling)
        for network in (student, teacher)
    ]
    loss = scale_decoupled_loss(*logits, labels, row_loss, 1., 2., *weighting)
    weights = cell_weights(logits[1], labels, weighting[0])
    return [*logits, weights, loss]


def step(inputs, criterion, fidelity):
    """What ``forward`` returns, and the gradients."""
    results = forward(inputs, criterion, fidelity)
    return results, torch.autograd.grad(results[-1], inputs[0])


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('fidelity', FIDELITIES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_inputs_are_computed_in_float32(dtype, fidelity,
                                                       criterion):
    half, rounded = networks(dtype), networks(dtype)
    for network in rounded[:2]:
        network[:] = [
            tensor.detach().float().requires_grad_() for tensor in network
        ]
    results, gradients = step(half, criterion, fidelity)
    expected, expected_gradients = step(rounded, criterion, fidelity)
    for one, other in zip(results, expected):
        assert one.dtype == torch.float32
        assert one.isfinite().all()
        assert torch.equal(one, other)
    for one, other in zip(gradients, expected_gradients):
        assert one.dtype == dtype
        assert one.isfinite().all()
        assert torch.equal(one, other.to(dtype))


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('fidelity', FIDELITIES)
@pytest.mark.parametrize('inputs', [torch.float32, *HALVES])
@pytest.mark.parametrize('dtype', HALVES)
def test_autocast_changes_nothing(dtype, inputs, fidelity, criterion):
    skip_without_autocast(dtype)
    expected, expected_gradients = step(networks(inputs), criterion, fidelity)
    student, *rest = networks(inputs)
    with torch.autocast('cpu', dtype=dtype):
        feature, weight, bias = student
        cast = F.linear(feature.mean((2, 3)), weight, bias)
        assert cast.dtype == dtype, 'autocast is not at work in this test'
        results = forward([student, *rest], criterion, fidelity)
    # As everywhere with autocast, the backward pass runs outside.
    gradients = torch.autograd.grad(results[-1], student)
    for one, other in zip(results, expected):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    for one, other in zip(gradients, expected_gradients):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    'function', [
        lambda row, label: kd_loss(row @ row.T, row @ row),
        lambda row, label: dkd_loss(row @ row.T, row @ row, label),
        lambda row, label: nkd_loss(row @ row.T, row @ row, label),
        lambda row, label: cell_weights((row @ row)[None], label),
    ],
    ids=['kd', 'dkd', 'nkd', 'weights'])
@pytest.mark.parametrize('dtype', HALVES)
def test_results_are_float32_on_what_autocast_yields(dtype, function):
    skip_without_autocast(dtype)
    row, label = torch.eye(3), torch.tensor([0, 1, 2])
    with torch.autocast('cpu', dtype=dtype):
        assert (row @ row).dtype == dtype
        assert function(row, label).dtype == torch.float32


def test_criterion_runs_outside_autocast():
    _, (feature, weight, bias), labels = networks()
    logits = local_logits(feature, weight, bias)
    seen = []

    def criterion(student, teacher, label):
        seen.append(student @ student.transpose(1, 2))
        return kd_loss(student, teacher)

    for enabled in (True, False):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            scale_decoupled_loss(logits, logits, labels, criterion)
    assert seen[0].dtype == torch.float32
    assert torch.equal(*seen)


def test_float64_stays_float64():
    results, gradients = step(networks(torch.float64), 'dkd', 'reference')
    for tensor in [*results, *gradients]:
        assert tensor.dtype == torch.float64


def decimals(function, parameters, *pair):
    """One row's loss in fifty digits."""
    with localcontext() as context:
        context.prec = 50
        rows = [[Decimal(value) for value in row] for row in pair]
        return float(function(*rows, 1, **parameters))


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('pair', PAIRS)
def test_extreme_logits(pair, criterion):
    function, slow, parameters = CRITERIA[criterion]
    labels = torch.tensor([1, 1])

    def losses(dtype):
        student, teacher = torch.tensor(PAIRS[pair]).to(dtype)
        student.requires_grad_()
        rows = function(student, teacher, labels, **parameters)
        return rows, *torch.autograd.grad(rows.sum(), student)

    # Every dtype holds these logits exactly, so all see the same numbers.
    exact = torch.tensor([
        decimals(slow, parameters, *rows) for rows in zip(*PAIRS[pair])
    ]).double()
    wide, wide_gradient = losses(torch.float64)
    torch.testing.assert_close(wide, exact, rtol=1e-7, atol=1e-7)
    for dtype in (torch.float32, torch.float16):
        rows, gradient = losses(dtype)
        assert rows.dtype == torch.float32
        assert rows.isfinite().all()
        assert gradient.isfinite().all()
        torch.testing.assert_close(rows.double(), exact, rtol=1e-4, atol=1e-6)
        # Where a gradient is the difference of equal parts, their rounding
        # is left.
        torch.testing.assert_close(
            gradient.double(),
            wide_gradient,
            rtol=1e-4 if dtype == torch.float32 else 1e-3,
            atol=1e-5)


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('fidelity', FIDELITIES)
@pytest.mark.parametrize('extreme', ['student', 'teacher', 'both'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_extreme_local_logits(dtype, extreme, fidelity, criterion):
    student, teacher, labels = networks()
    for name, network in [('student', student), ('teacher', teacher)]:
        factor = 60. if extreme in (name, 'both') else 1.
        network[:] = [(factor * tensor.detach()).to(dtype).requires_grad_()
                      for tensor in network]
    inputs = student, teacher, labels
    wide = *([tensor.detach().double().requires_grad_() for tensor in network]
             for network in (student, teacher)), labels
    results, gradients = step(inputs, criterion, fidelity)
    expected, expected_gradients = step(wide, criterion, fidelity)
    for one, other in zip(results, expected):
        assert one.isfinite().all()
        assert_near(one.double(), other, 1e-4)
    for one, other in zip(gradients, expected_gradients):
        assert one.isfinite().all()
        tolerance = 1e-4 if dtype == torch.float32 else 1e-3
        assert_near(one.double(), other, tolerance)
