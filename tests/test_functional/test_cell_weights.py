# Copyright (c) sdd_mm contributors. All rights reserved.
"""Further factors of cells against literal writings of their formulas."""
import math

import pytest
import torch
from toy import build, losses, sdd_loss

from sdd_mm.functional import kd_loss, scale_decoupled_loss
from sdd_mm.models.losses import Entropy, Reliability, ScaleDecoupledLoss

KD = dict(type='KDCriterion')


def shares(row, tau):
    exps = [math.exp(x / tau - max(row) / tau) for x in row]
    return [x / sum(exps) for x in exps]


def entropy(row, tau):
    return -sum(p * math.log(p) for p in shares(row, tau) if p)


def reliability(s, t, floor, tau):
    chance = 1 / len(t)
    best = max(shares(t, tau))
    return floor + (1 - floor) * (best - chance) / (1 - chance)


def unsure(s, t, tau):
    return entropy(t, tau) * (1 + entropy(s, tau) / math.log(len(s))) / 2


@pytest.mark.parametrize('module, literal, numbers', [
    (Reliability, reliability, (0.2, 4.)),
    (Reliability, reliability, (0., 1.)),
    (Entropy, unsure, (3., )),
    (Entropy, unsure, (0.5, )),
])
def test_factors_equal_literal(module, literal, numbers):
    student, teacher = 3 * torch.randn(2, 5, 4, 7, dtype=torch.float64)
    found = module(*numbers)(student.requires_grad_(), teacher)
    assert found.shape == (5, 4) and not found.requires_grad
    for place in ((0, 0), (4, 3), (2, 1)):
        wanted = literal(student[place].tolist(), teacher[place].tolist(),
                         *numbers)
        assert found[place].item() == pytest.approx(wanted, rel=1e-12)


def test_factors_of_rows_without_doubt_and_without_knowledge():
    sure, empty = 1e4 * torch.eye(5)[None], torch.zeros(1, 5, 5)
    assert Reliability(0.2)(sure, sure) == pytest.approx(torch.ones(1, 5))
    assert Reliability(0.2)(sure,
                            empty) == pytest.approx(torch.full((1, 5), 0.2))
    assert (Entropy()(sure, sure) == 0).all()
    assert Entropy()(empty,
                     empty) == pytest.approx(torch.full((1, 5), math.log(5)))


def test_the_factor_multiplies_the_weights():
    student, teacher = torch.randn(2, 5, 4, 7)
    labels = torch.arange(4)

    def kd(s, t, target):
        return kd_loss(s, t)

    given = student, teacher, labels, kd
    plain = scale_decoupled_loss(*given, reduction='none')
    factor = Reliability()
    found = scale_decoupled_loss(*given, reduction='none', factor=factor)
    torch.testing.assert_close(found, plain * factor(student, teacher))


@pytest.mark.parametrize('kind', ['Agreement', 'Reliability', 'Entropy'])
def test_in_a_step(kind):
    torch.manual_seed(0)
    plain, model = (
        build(
            distiller=dict(
                type='SDDDistiller',
                distill_losses=dict(loss_sdd=sdd_loss(**own))))
        for own in ({}, dict(cell_weights=dict(type=kind))))
    plain.init_weights()
    model.init_weights()
    model.load_state_dict(plain.state_dict())
    model.teacher.load_state_dict(plain.teacher.state_dict())
    wanted, found = (losses(one)['distill.loss_sdd'] for one in (plain, model))
    assert (wanted == found) == (kind == 'Agreement')
    found.backward()
    loss = model.distiller.distill_losses['loss_sdd']
    chunked = ScaleDecoupledLoss(
        KD, cell_weights=dict(type=kind), chunk_size=1)
    assert kind == 'Agreement' or kind in repr(loss)
    assert (chunked.cell_weights is None) == (kind == 'Agreement')


@pytest.mark.parametrize('given, message', [
    (dict(type='KDCriterion'), "'Agreement', 'Reliability', 'Entropy'"),
    (dict(type='Reliability', floor=2), 'floor must be from 0 to 1'),
    (dict(type='Entropy', tau=0), 'tau'),
])
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ScaleDecoupledLoss(KD, cell_weights=given)
