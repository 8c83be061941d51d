# Copyright (c) sdd_mm contributors. All rights reserved.
"""Refined logit distillation against a literal writing of its formula."""
import math
from itertools import product

import pytest
import torch
from test_functional.cases import case
from test_functional.test_precision import EXTREME, MODERATE
from toy import build, losses, sdd_loss

from sdd_mm.functional import dkd_loss, rld_loss
from sdd_mm.models.losses import RLDCriterion


def softmax(values):
    exps = [(x - max(values)).exp() for x in values]
    return [x / sum(exps) for x in exps]


def divergence(q, p):
    return sum(a * (a / b).log() for a, b in zip(q, p))


def literal(s, t, y, alpha, beta, tau, tau_c):
    """One row of scalars, as the paper writes it."""
    sure_t = max(softmax([x / tau_c for x in t]))
    sure_s = softmax([x / tau_c for x in s])[y]
    found = alpha * tau_c**2 * divergence([sure_t, 1 - sure_t],
                                          [sure_s, 1 - sure_s])
    below = [k for k in range(len(t)) if t[k] < t[y]]
    if below:
        q, p = (softmax([x[k] / tau for k in below]) for x in (t, s))
        found = found + beta * tau**2 * divergence(q, p)
    return found


@pytest.mark.parametrize('classes', [2, 3, 10])
def test_equals_literal(classes):
    generator = torch.Generator().manual_seed(classes)
    for numbers in product((1., 0.), (8., 0.5), (1., 4.), (1., 4.)):
        student, teacher = 2 * torch.randn(
            2, 6, classes, generator=generator, dtype=torch.float64)
        labels = torch.arange(6) % classes
        labels[0] = teacher[0].argmin()  # nothing is below it
        student.requires_grad_()
        weights = torch.linspace(-1, 2, 6, dtype=torch.float64)
        found = rld_loss(student, teacher, labels, *numbers)
        wanted = torch.stack([
            literal([*s], [*t], y, *numbers)
            for s, t, y in zip(student, teacher, labels.tolist())
        ])
        with case(numbers=numbers):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(
                *(torch.autograd.grad(one, student, weights)[0]
                  for one in (found, wanted)),
                rtol=1e-8,
                atol=1e-10)


def test_it_is_dkd_where_the_teacher_is_right():
    student, teacher = 2 * torch.randn(2, 5, 7, dtype=torch.float64)
    labels = teacher.argmax(-1)
    torch.testing.assert_close(
        rld_loss(student, teacher, labels, 1., 8., 4., 4.),
        dkd_loss(student, teacher, labels, 1., 8., 4.))


def test_nothing_below_the_target_gives_nothing():
    teacher = torch.randn(3, 5)
    student = torch.randn(3, 5, requires_grad=True)
    labels = teacher.argmin(-1)
    loss = rld_loss(student, teacher, labels, alpha=0.)
    loss.sum().backward()
    assert (loss == 0).all() and (student.grad == 0).all()
    equal = torch.zeros(2, 4)  # a teacher that ranks nothing
    assert (rld_loss(torch.randn(2, 4), equal, torch.tensor([0, 1]),
                     alpha=0.) == 0).all()


@pytest.mark.parametrize('dtype',
                         [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype):
    rows = [MODERATE, *EXTREME.values()]
    for one, other in product(rows, rows):
        student = torch.tensor(one, dtype=dtype, requires_grad=True)
        loss = rld_loss(student, torch.tensor(other, dtype=dtype),
                        torch.tensor([1, 1]))
        loss.sum().backward()
        with case(student=one, teacher=other):
            assert loss.isfinite().all() and student.grad.isfinite().all()


def test_the_criterion_in_a_step():
    torch.manual_seed(0)
    model = build(
        distiller=dict(
            type='SDDDistiller',
            distill_losses=dict(loss_sdd=sdd_loss('RLDCriterion'))))
    model.init_weights()
    found = losses(model)
    assert math.isfinite(
        found['distill.loss_sdd']) and found['distill.loss_sdd'] > 0
    sum(found.values()).backward()
    assert 'tau_confidence=1.0' in repr(RLDCriterion())
    with pytest.raises(ValueError, match='tau_confidence'):
        RLDCriterion(tau_confidence=0)
