# Copyright (c) sdd_mm contributors. All rights reserved.
"""Two processes train what one does."""
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks
import torch


def launch(folder, *args):
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2',
        '--master_port', '29531', ranks.__file__, folder, *args
    ]
    root = Path(__file__).resolve().parents[1]
    return subprocess.run(
        list(map(str, command)),
        env=dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        text=True)


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    result = launch(folder)
    assert result.returncode == 0, result.stdout
    return torch.load(folder / 'found.pth')


@pytest.mark.parametrize('criterion', ranks.CRITERIA)
def test_two_processes_train_what_one_does(found, criterion, tmp_path):
    """Global batch, float64, group norm, 20 steps: equal to 1e-10."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        expected, counted = ranks.train(tmp_path, criterion)
    finally:
        torch.set_default_dtype(before)
    weights, theirs = found[criterion]
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-10)
    # each sample once, though 21 are no multiple of 2
    assert counted == theirs == dict(samples=21, distinct=21)


def test_a_rank_that_fails_ends_the_job(tmp_path):
    start = time.monotonic()
    result = launch(tmp_path, 'fail')
    assert result.returncode != 0
    assert 'ZeroDivisionError: this rank fails' in result.stdout
    assert time.monotonic() - start < 120


def test_a_signal_to_one_rank_stops_all_and_saves(tmp_path):
    result = launch(tmp_path, 'signal')
    assert result.returncode != 0
    assert 'SIGTERM: stopped after iteration 4' in result.stdout
    meta = torch.load(tmp_path / 'stopped.pth')['meta']
    assert (meta['iter'], meta['epoch'], meta['validated']) == (4, 1, True)
