# Copyright (c) sdd_mm contributors. All rights reserved.
"""The row losses beside two other writings of them, and names for cases."""
from contextlib import contextmanager
from functools import partial
from typing import Callable, NamedTuple

import pytest
from literal import plain_losses, row_losses

from sdd_mm.functional import dkd_loss, kd_loss, nkd_loss


def kd(student, teacher, target, **kwargs):
    """KD with a label, which it does not use."""
    return kd_loss(student, teacher, **kwargs)


class Loss(NamedTuple):
    """The loss under test, the plain and the literal one."""
    function: Callable
    plain: Callable
    literal: Callable


LOSSES = {
    'kd':
    Loss(kd, plain_losses.kd, row_losses.kd),
    'dkd':
    Loss(dkd_loss, plain_losses.dkd, row_losses.dkd),
    'nkd':
    Loss(nkd_loss, plain_losses.nkd, row_losses.nkd),
    'nkd-kept':
    Loss(*[
        partial(nkd, keep_target=True)
        for nkd in (nkd_loss, plain_losses.nkd, row_losses.nkd)
    ]),
}
POOLINGS = ['hierarchical', 'direct']
FIDELITIES = {
    'reference': ('hierarchical', 'label', 'mean'),
    'paper': ('direct', 'class', 'sum'),
}
on_every_loss = pytest.mark.parametrize('name', LOSSES)


@contextmanager
def case(**names):
    """Name the case of a loop that fails."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        raise AssertionError(f'in the case {names}: {error}') from error
