# Copyright (c) sdd_mm contributors. All rights reserved.
"""Half precision, autocast, and logits large enough to saturate a softmax."""
from decimal import Decimal, localcontext
from functools import lru_cache, partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from literal.tensors import assert_near
from test_functional.cases import FIDELITIES, LOSSES, case
from toy import skip_without_autocast

from sdd_mm.functional import (cell_weights, dkd_loss, kd_loss, local_logits,
                               nkd_loss, scale_decoupled_loss)

# Losses and whole numbers for their parameters.
CRITERIA = {
    'kd': (LOSSES['kd'], dict(tau=4)),
    'kd-1': (LOSSES['kd'], dict(tau=1)),
    'dkd': (LOSSES['dkd'], dict(alpha=1, beta=8, tau=4)),
    'dkd-1': (LOSSES['dkd'], dict(alpha=1, beta=2, tau=1)),
    'nkd': (LOSSES['nkd'], dict(gamma=2, tau=1)),
    'nkd-4': (LOSSES['nkd'], dict(gamma=8, tau=4)),
    'nkd-kept': (LOSSES['nkd-kept'], dict(gamma=8, tau=4)),
}
on_every_criterion = pytest.mark.parametrize('criterion', CRITERIA)
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


def converted(network, dtype, factor=1.):
    """Leaves of another dtype, of the same or of scaled numbers."""
    return [(factor * tensor.detach()).to(dtype).requires_grad_()
            for tensor in network]


def forward(inputs, criterion, fidelity):
    """Local logits, weights and loss."""
    student, teacher, labels = inputs
    loss, parameters = CRITERIA[criterion]
    pooling, *weighting = FIDELITIES[fidelity]
    logits = [
        local_logits(*network, pooling=pooling)
        for network in (student, teacher)
    ]
    loss = scale_decoupled_loss(*logits, labels,
                                partial(loss.function, **parameters), 1., 2.,
                                *weighting)
    weights = cell_weights(logits[1], labels, weighting[0])
    return [*logits, weights, loss]


def step(inputs, criterion, fidelity):
    """What ``forward`` returns, and the gradients."""
    results = forward(inputs, criterion, fidelity)
    return results, torch.autograd.grad(results[-1], inputs[0])


@on_every_criterion
def test_half_precision_inputs_are_computed_in_float32(criterion):
    for dtype, fidelity in product(HALVES, FIDELITIES):
        half = networks(dtype)
        rounded = [converted(network, torch.float32) for network in half[:2]]
        results, gradients = step(half, criterion, fidelity)
        expected, expected_gradients = step((*rounded, half[2]), criterion,
                                            fidelity)
        with case(dtype=dtype, fidelity=fidelity):
            for one, other in zip(results, expected):
                assert one.dtype == torch.float32
                assert one.isfinite().all()
                assert torch.equal(one, other)
            for one, other in zip(gradients, expected_gradients):
                assert one.dtype == dtype
                assert one.isfinite().all()
                assert torch.equal(one, other.to(dtype))


@on_every_criterion
@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_autocast_changes_nothing(dtype, criterion):
    skip_without_autocast(dtype)
    for inputs, fidelity in product([torch.float32, *HALVES], FIDELITIES):
        expected, expected_gradients = step(
            networks(inputs), criterion, fidelity)
        student, *rest = networks(inputs)
        with torch.autocast('cpu', dtype=dtype):
            feature, weight, bias = student
            cast = F.linear(feature.mean((2, 3)), weight, bias)
            assert cast.dtype == dtype, 'autocast is not at work in this test'
            results = forward([student, *rest], criterion, fidelity)
        # As everywhere with autocast, the backward pass runs outside.
        gradients = torch.autograd.grad(results[-1], student)
        with case(inputs=inputs, fidelity=fidelity):
            for one, other in zip(results, expected):
                assert one.dtype == torch.float32
                assert torch.equal(one, other)
            for one, other in zip(gradients, expected_gradients):
                assert torch.equal(one, other)


@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_results_are_float32_on_what_autocast_yields(dtype):
    skip_without_autocast(dtype)
    row, label = torch.eye(3), torch.tensor([0, 1, 2])
    with torch.autocast('cpu', dtype=dtype):
        logits = row @ row
        assert logits.dtype == dtype
        for results in [
                kd_loss(logits, logits),
                dkd_loss(logits, logits, label),
                nkd_loss(logits, logits, label),
                cell_weights(logits[None], label)
        ]:
            assert results.dtype == torch.float32


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


@on_every_criterion
def test_float64_stays_float64(criterion):
    results, gradients = step(networks(torch.float64), criterion, 'reference')
    for tensor in [*results, *gradients]:
        assert tensor.dtype == torch.float64


@lru_cache(maxsize=None)
def exact(criterion, student, teacher):
    """Loss of one row, a tuple of numbers, label 1, in thirty digits."""
    loss, parameters = CRITERIA[criterion]
    with localcontext() as context:
        context.prec = 30
        rows = [list(map(Decimal, row)) for row in (student, teacher)]
        return float(loss.literal(*rows, 1, **parameters))


# Of values and of gradients, relative and absolute.
TOLERANCES = {
    torch.float64: ((1e-12, 1e-12), (1e-12, 1e-12)),
    torch.float32: ((1e-4, 1e-6), (1e-4, 1e-5)),
    torch.float16: ((1e-4, 1e-6), (1e-3, 1e-5)),
    torch.bfloat16: ((1e-4, 1e-6), (4e-3, 1e-5)),
}


@on_every_criterion
@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
def test_extreme_logits(dtype, criterion):
    (function, plain, _), parameters = CRITERIA[criterion]
    student, teacher = torch.tensor(list(PAIRS.values())).to(dtype).unbind(1)
    labels = torch.ones(student.shape[:-1], dtype=torch.long)

    def differentiate(function, student, teacher):
        student = student.detach().requires_grad_()
        rows = function(student, teacher, labels, **parameters)
        return rows, *torch.autograd.grad(rows.sum(), student)

    rows, gradient = differentiate(function, student, teacher)
    assert rows.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    expected = torch.tensor(
        [[exact(criterion, *map(tuple, rows)) for rows in zip(*pair)]
         for pair in zip(student.tolist(), teacher.tolist())],
        dtype=torch.float64)
    # Where a gradient is the difference of equal parts, their rounding is
    # left.
    _, slopes = differentiate(plain, student.double(), teacher.double())
    for i, pair in enumerate(PAIRS):
        with case(pair=pair):
            assert rows[i].isfinite().all()
            assert gradient[i].isfinite().all()
            for one, other, (rtol, atol) in zip([rows, gradient],
                                                [expected, slopes],
                                                TOLERANCES[dtype]):
                torch.testing.assert_close(
                    one[i].double(), other[i], rtol=rtol, atol=atol)


@on_every_criterion
def test_extreme_local_logits(criterion):
    for dtype, extreme, fidelity in product([torch.float32, *HALVES],
                                            ['student', 'teacher', 'both'],
                                            FIDELITIES):
        *pair, labels = networks()
        pair = [
            converted(network, dtype, 60. if extreme in (name, 'both') else 1.)
            for name, network in zip(['student', 'teacher'], pair)
        ]
        wide = [converted(network, torch.float64) for network in pair]
        results, gradients = step((*pair, labels), criterion, fidelity)
        expected, expected_gradients = step((*wide, labels), criterion,
                                            fidelity)
        tolerance = 1e-4 if dtype == torch.float32 else 4e-3
        with case(dtype=dtype, extreme=extreme, fidelity=fidelity):
            for one, other in zip(results, expected):
                assert one.isfinite().all()
                assert_near(one.double(), other, 1e-4)
            for one, other in zip(gradients, expected_gradients):
                assert one.isfinite().all()
                assert_near(one.double(), other, tolerance)
