# Copyright (c) sdd_mm contributors. All rights reserved.
"""The reference fidelity against recorded outputs of the authors' code."""
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from literal.tensors import assert_near

from sdd_mm.functional import (cell_weights, closed_dkd_loss, closed_kd_loss,
                               closed_nkd_loss, dkd_loss, kd_loss,
                               local_logits, nkd_loss, scale_decoupled_loss)

FILE = Path(__file__).parents[1] / 'data' / 'reference_values.npz'
RECORDED = dict(np.load(FILE))
SCALES = {'M12': (1, 2), 'M124': (1, 2, 4)}


def criteria(kd_loss, dkd_loss, nkd_loss):
    """What was recorded, by the name that it was recorded under."""

    def kd(student, teacher, label, tau):
        return kd_loss(student, teacher, tau)

    return {
        'KD_T4': partial(kd, tau=4.),
        'KD_T1': partial(kd, tau=1.),
        'DKD_a1b8T4': partial(dkd_loss, alpha=1., beta=8., tau=4.),
        'DKD_a1b2T1': partial(dkd_loss, alpha=1., beta=2., tau=1.),
        'NKD_t1g1.5': partial(nkd_loss, gamma=1.5, tau=1., keep_target=True),
        'NKD_t4g8': partial(nkd_loss, gamma=8., tau=4., keep_target=True),
        'NKD_t1g1.5_FIXED_dropTarget': partial(nkd_loss, gamma=1.5, tau=1.),
        'NKD_t4g8_FIXED_dropTarget': partial(nkd_loss, gamma=8., tau=4.),
    }


FORMS = {
    'plain': criteria(kd_loss, dkd_loss, nkd_loss),
    'closed': criteria(closed_kd_loss, closed_dkd_loss, closed_nkd_loss),
}
LOSSES = sorted(key[:-len('/f64/value')] for key in RECORDED
                if key.endswith('/value'))
GRIDS = sorted(key[:-len('/weight')] for key in RECORDED
               if key.endswith('/weight'))


def inputs(case):
    """Recorded logit maps of student and teacher, and labels."""
    return [
        torch.from_numpy(RECORDED[f'{case}/in/{name}'])
        for name in ('logit_map_s', 'logit_map_t', 'target')
    ]


def cells(logit_map, grid):
    """The local logits of a map of logits: its classifier is the identity."""
    identity = torch.eye(logit_map.shape[1], dtype=logit_map.dtype)
    return local_logits(logit_map, identity, scales=SCALES[grid])


def test_everything_recorded_is_compared():
    # Nine cases of three grids and eight losses; two of those have no
    # gradient, and neither have the two at other temperatures.
    assert len(LOSSES) == 9 * 3 * 8
    assert len(GRIDS) == 9 * 2
    assert sum(key.endswith('/grad') for key in RECORDED) == 9 * 3 * 4
    assert len(RECORDED) == 9 * (3 + 3 * 8 + 3 * 4 + 2 * 2)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('key', LOSSES)
def test_values_and_gradients(key, form):
    case, grid, loss = key.split('/')
    student, teacher, labels = inputs(case)
    student.requires_grad_()
    if grid == 'global':
        logits = student.mean((2, 3)), teacher.mean((2, 3))
        actual = FORMS[form][loss](*logits, labels).mean()
    else:
        actual = scale_decoupled_loss(
            cells(student, grid), cells(teacher, grid), labels,
            FORMS[form][loss[len('SD'):]])
    assert actual.item() == pytest.approx(
        RECORDED[f'{key}/f64/value'].item(), rel=1e-10, abs=0)
    if f'{key}/f64/grad' in RECORDED:
        gradient, = torch.autograd.grad(actual, student)
        recorded = torch.from_numpy(RECORDED[f'{key}/f64/grad'])
        assert_near(gradient, recorded, 1e-5)


@pytest.mark.parametrize('key', GRIDS)
def test_weights_and_case_ids(key):
    case, grid = key.split('/')
    _, teacher, labels = inputs(case)
    local = cells(teacher, grid)
    wrong = (local.argmax(-1) != labels).long()
    ids, weights = 2 * wrong[:1] + wrong, cell_weights(local, labels)
    assert np.array_equal(ids, RECORDED[f'{key}/caseid'])
    assert np.array_equal(weights, RECORDED[f'{key}/weight'])


def test_all_four_cases_occur():
    ids = [RECORDED[f'{key}/caseid'].flatten() for key in GRIDS]
    assert set(np.concatenate(ids)) == {0, 1, 2, 3}
