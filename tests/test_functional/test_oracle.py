# Copyright (c) sdd_mm contributors. All rights reserved.
"""The reference fidelity against recorded outputs of the authors' code."""
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from literal.tensors import assert_near
from test_functional.cases import case, kd

from sdd_mm.functional import (cell_weights, dkd_loss, local_logits, nkd_loss,
                               scale_decoupled_loss)

FILE = Path(__file__).parents[1] / 'data' / 'reference_values.npz'
RECORDED = dict(np.load(FILE))
SCALES = {'M12': (1, 2), 'M124': (1, 2, 4)}
# What was recorded, by the name that it was recorded under.
LOSSES = {
    'KD_T4': partial(kd, tau=4.),
    'KD_T1': partial(kd, tau=1.),
    'DKD_a1b8T4': partial(dkd_loss, alpha=1., beta=8., tau=4.),
    'DKD_a1b2T1': partial(dkd_loss, alpha=1., beta=2., tau=1.),
    'NKD_t1g1.5': partial(nkd_loss, gamma=1.5, tau=1., keep_target=True),
    'NKD_t4g8': partial(nkd_loss, gamma=8., tau=4., keep_target=True),
    'NKD_t1g1.5_FIXED_dropTarget': partial(nkd_loss, gamma=1.5, tau=1.),
    'NKD_t4g8_FIXED_dropTarget': partial(nkd_loss, gamma=8., tau=4.),
}
CASES = sorted({key.split('/')[0] for key in RECORDED})


def inputs(name):
    """Recorded logit maps of student and teacher, and labels."""
    return [
        torch.from_numpy(RECORDED[f'{name}/in/{part}'])
        for part in ('logit_map_s', 'logit_map_t', 'target')
    ]


def cells(logit_map, grid):
    """The local logits of a map of logits: its classifier is the identity."""
    identity = torch.eye(logit_map.shape[1], dtype=logit_map.dtype)
    return local_logits(logit_map, identity, scales=SCALES[grid])


def test_everything_recorded_is_compared():
    # Nine cases of three grids and eight losses; two of those have no
    # gradient, and neither have the two at other temperatures.
    assert len(CASES) == 9
    parts = {
        kind: sum(key.endswith(f'/{kind}') for key in RECORDED)
        for kind in ('value', 'grad', 'weight', 'caseid')
    }
    assert parts == dict(
        value=9 * 3 * 8, grad=9 * 3 * 4, weight=9 * 2, caseid=9 * 2)
    assert len(RECORDED) == 9 * 3 + sum(parts.values())


@pytest.mark.parametrize('grid', ['global', *SCALES])
@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients(name, grid):
    student, teacher, labels = inputs(name)
    student.requires_grad_()
    for loss, function in LOSSES.items():
        if grid == 'global':
            key = f'{name}/global/{loss}/f64'
            logits = student.mean((2, 3)), teacher.mean((2, 3))
            actual = function(*logits, labels).mean()
        else:
            key = f'{name}/{grid}/SD{loss}/f64'
            actual = scale_decoupled_loss(
                cells(student, grid), cells(teacher, grid), labels, function)
        with case(loss=loss):
            assert actual.item() == pytest.approx(
                RECORDED[f'{key}/value'].item(), rel=1e-10, abs=0)
            if f'{key}/grad' in RECORDED:
                gradient, = torch.autograd.grad(actual, student)
                recorded = torch.from_numpy(RECORDED[f'{key}/grad'])
                assert_near(gradient, recorded, 1e-5)


def test_weights_and_case_ids():
    seen = set()
    for name in CASES:
        _, teacher, labels = inputs(name)
        for grid in SCALES:
            local = cells(teacher, grid)
            wrong = (local.argmax(-1) != labels).long()
            ids = 2 * wrong[:1] + wrong
            key = f'{name}/{grid}'
            with case(name=name, grid=grid):
                assert np.array_equal(ids, RECORDED[f'{key}/caseid'])
                assert np.array_equal(
                    cell_weights(local, labels), RECORDED[f'{key}/weight'])
            seen.update(ids.flatten().tolist())
    assert seen == {0, 1, 2, 3}
