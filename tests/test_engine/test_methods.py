# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a criterion does not do with two classes is said, and is true."""
import pytest
import torch
from toy import build, classifier, sdd_loss

from sdd_mm.engine.preflight.methods import without_meaning
from sdd_mm.models.losses import DKDCriterion, KDCriterion, NKDCriterion


def sentences(criterion, classes):
    model = build(
        architecture=classifier(num_classes=classes),
        teacher=classifier(
            num_classes=classes,
            data_preprocessor=dict(mean=[128.] * 3, std=[64.] * 3)),
        data_preprocessor=dict(mean=[128.] * 3, std=[64.] * 3),
        distiller=dict(
            type='SDDDistiller',
            distill_losses=dict(loss_sdd=sdd_loss(criterion))))
    return list(without_meaning(model))


@pytest.mark.parametrize('criterion, weight', [('DKDCriterion', 'beta'),
                                               ('NKDCriterion', 'gamma')])
def test_two_classes_have_no_second_part(criterion, weight):
    found, = sentences(criterion, 2)
    assert f'loss_sdd: {criterion[:3]} ' in found
    assert f'{weight} has no effect' in found and 'sd-kd' in found
    assert not sentences(criterion, 3)


def test_kd_has_all_its_parts():
    assert not sentences('KDCriterion', 2)


@pytest.mark.parametrize('classes', [2, 3])
@pytest.mark.parametrize('weaker, stronger',
                         [(DKDCriterion(beta=1.), DKDCriterion(beta=8.)),
                          (NKDCriterion(gamma=1.), NKDCriterion(gamma=8.)),
                          (KDCriterion(tau=1.), KDCriterion(tau=4.))])
def test_a_weight_has_no_effect_where_it_is_said(classes, weaker, stronger):
    torch.manual_seed(0)
    rows = torch.randn(2, 6, classes)
    target = torch.randint(classes, (6, ))
    same = torch.allclose(
        weaker(*rows, target), stronger(*rows, target), atol=1e-6)
    assert same == (classes == 2 and not isinstance(weaker, KDCriterion))
