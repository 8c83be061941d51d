# Copyright (c) sdd_mm contributors. All rights reserved.
"""Two processes train what one does."""
import math
import time

import commands
import contrast_ranks
import pytest
import ranks
import torch


def launch(folder, processes, *args, script=ranks.__file__):
    return commands.run(script, processes, folder, *args)


def both(tmp_path_factory, *args, **kwargs):
    """What one process found, and what two did."""
    found = []
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp('run')
        result = launch(folder, processes, *args, **kwargs)
        assert result.returncode == 0, result.stdout
        found.append(torch.load(folder / 'found.pth'))
    return found


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    return both(tmp_path_factory)


def compare(one, two):
    """Weights in float64 after 20 steps: equal to 1e-10."""
    weights, counted = one
    others, counted_too = two
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        if value.is_floating_point():
            assert value.dtype == torch.float64
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-10)
    # each sample once, though 21 are no multiple of 2
    assert counted == counted_too == dict(samples=21, distinct=21)


@pytest.mark.parametrize('criterion', ranks.CRITERIA)
def test_two_processes_train_what_one_does(plain, criterion):
    """The same global batch, and group norm."""
    compare(plain[0][criterion], plain[1][criterion])


@pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason='SyncBN needs two GPUs')
def test_two_gpus_with_synchronised_batch_norm(tmp_path_factory):
    one, two = both(tmp_path_factory, 'sync')
    for criterion in ranks.CRITERIA:
        compare(one[criterion], two[criterion])


def test_a_rank_that_fails_ends_the_job(tmp_path):
    start = time.monotonic()
    result = launch(tmp_path, 2, 'fail')
    assert result.returncode != 0
    assert 'ZeroDivisionError: this rank fails' in result.stdout
    assert time.monotonic() - start < 120


def test_a_signal_to_one_rank_stops_all_and_saves(tmp_path):
    result = launch(tmp_path, 2, 'signal')
    assert result.returncode != 0
    assert 'SIGTERM: stopped after iteration 4' in result.stdout
    meta = torch.load(tmp_path / 'stopped.pth')['meta']
    assert (meta['iter'], meta['epoch'], meta['validated']) == (4, 1, True)


def test_a_loss_of_one_rank_ends_all_and_each_keeps_its_own(tmp_path):
    result = launch(tmp_path, 2, 'nan')
    assert result.returncode != 0 and 'NonFiniteError' in result.stdout
    healthy, ill = (
        torch.load(tmp_path / f'non_finite_iter_4_rank_{rank}.pth')['losses']
        for rank in (0, 1))
    assert math.isfinite(healthy['loss']) and math.isnan(ill['student.loss'])


def test_two_processes_contrast_with_one_memory(tmp_path_factory):
    one, two = both(tmp_path_factory, script=contrast_ranks.__file__)
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-12, atol=0, msg=name)
