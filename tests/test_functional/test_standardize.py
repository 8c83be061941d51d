# Copyright (c) sdd_mm contributors. All rights reserved.
"""Logit standardization against a literal writing of its formula."""
import math

import pytest
import torch
from test_functional.cases import case
from toy import build, losses, sdd_loss

from sdd_mm.functional import kd_loss, standardize
from sdd_mm.models.losses import DKDCriterion, KDCriterion, NKDCriterion


def literal(row):
    """One row of scalars, as the paper writes it."""
    mean = sum(row) / len(row)
    spread = (sum((x - mean)**2 for x in row) / (len(row) - 1)).sqrt()
    return torch.stack([(x - mean) / (spread + 1e-7) for x in row])


@pytest.mark.parametrize('classes', [2, 3, 10, 100])
def test_equals_literal(classes):
    generator = torch.Generator().manual_seed(classes)
    for scale in (1e-3, 1., 1e4):
        logits = scale * torch.randn(
            4, classes, generator=generator, dtype=torch.float64)
        weights = torch.randn(
            4, classes, generator=generator, dtype=torch.float64)
        found, wanted = [], []
        for write, out in ((standardize, found),
                           (lambda x: torch.stack([*map(literal, x)]),
                            wanted)):
            leaf = logits.clone().requires_grad_()
            value = write(leaf)
            out += [value, *torch.autograd.grad(value, leaf, weights)]
        with case(scale=scale):
            for one, other in zip(found, wanted):
                # the derivative of two logits is rounding: they are ±0.7
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_gradients():
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(standardize, logits)


@pytest.mark.parametrize('value', [0., 1., 0.1, 1e4, -3e38])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_rows_of_equal_logits_give_nothing(value, dtype):
    logits = torch.full((2, 7), value, dtype=dtype)
    logits[1] = torch.arange(7)
    logits.requires_grad_()
    z = standardize(logits)
    (z * torch.arange(7)).sum().backward()
    assert (z[0] == 0).all() and (logits.grad[0] == 0).all()
    assert z[1].std().item() == pytest.approx(1)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('dtype',
                         [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_stay_finite(dtype):
    largest = torch.finfo(dtype).max / 4
    logits = torch.tensor([[largest, -largest, 0.], [1e4, 1e4, -1e4]],
                          dtype=dtype,
                          requires_grad=True)
    z = standardize(logits)
    z.square().sum().backward()
    assert z.isfinite().all() and logits.grad.isfinite().all()


def test_what_the_docstring_says():
    logits = torch.randn(6, 10, dtype=torch.float64)
    z = standardize(logits)
    torch.testing.assert_close(
        standardize(3 * logits + 7), z, atol=1e-6, rtol=0)
    one_hot = 1e3 * torch.eye(10, dtype=torch.float64)
    top = standardize(one_hot).max().item()
    assert top == pytest.approx(9 / math.sqrt(10), rel=1e-6)
    leaf = logits.requires_grad_()
    gradient, = torch.autograd.grad(standardize(leaf).pow(3).sum(), leaf)
    torch.testing.assert_close(
        gradient.sum(-1),
        torch.zeros(6, dtype=torch.float64),
        atol=1e-9,
        rtol=0)
    with pytest.raises(ValueError, match='at least 2 logits'):
        standardize(torch.zeros(3, 1))


@pytest.mark.parametrize('criterion',
                         [KDCriterion, DKDCriterion, NKDCriterion])
def test_criteria_of_standardized_rows(criterion):
    student, teacher = torch.randn(2, 5, 10)
    labels = torch.arange(5)
    plain, ours = criterion(tau=2.), criterion(tau=2., standardize=True)
    wanted = plain(standardize(student), standardize(teacher), labels)
    assert torch.equal(ours(student, teacher, labels), wanted)
    torch.testing.assert_close(
        ours(2 * student + 1, 5 * teacher, labels), wanted)
    assert 'standardize=True' in repr(ours) and 'stand' not in repr(plain)
    torch.testing.assert_close(
        KDCriterion(2., True)(student, teacher),
        kd_loss(standardize(student), standardize(teacher), 2.))


def test_every_cell_is_standardized():
    torch.manual_seed(0)
    loss = sdd_loss()
    loss['criterion'].update(standardize=True, tau=2.0)
    model = build(
        distiller=dict(
            type='SDDDistiller', distill_losses=dict(loss_sdd=loss)))
    model.init_weights()
    found = losses(model)
    assert found['distill.loss_sdd'] > 0
    sum(found.values()).backward()
    weight = model.teacher.head.fc.weight
    weight.data *= 100  # the cells' logits, and not their z-scores
    model.teacher.head.fc.bias.data *= 100
    torch.testing.assert_close(
        losses(model)['distill.loss_sdd'],
        found['distill.loss_sdd'],
        rtol=1e-2,
        atol=1e-4)
