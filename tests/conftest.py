# Copyright (c) sdd_mm contributors. All rights reserved.
import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
import gc
import json
import os
import random
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import config as mmengine_config
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import DefaultScope

torch.set_num_threads(1)
if torch.cuda.is_available():
    # what is compared to the last bit
    os.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)


@lru_cache(maxsize=None)
def format_once(text, settings, format_code=mmengine_config.FormatCode):
    return format_code(text, **json.loads(settings))


# a run formats its config five times, which takes most of a short run's time
mmengine_config.FormatCode = (
    lambda text, **settings: format_once(text, json.dumps(settings)))


def pytest_addoption(parser):
    parser.addoption(
        '--long', action='store_true', help='also run what takes minutes')
    parser.addoption(
        '--failures',
        type=Path,
        help='file that gets every failure at once, should time be short')
    parser.addoption(
        '--write-families',
        action='store_true',
        help='write docs/en/families.md from what test_families.py measures')
    parser.addoption(
        '--write-hooks',
        action='store_true',
        help='write docs/en/hooks.md from what test_hooks_of_others.py tries')


def pytest_configure(config):
    path = config.getoption('--failures')
    if path and not hasattr(config, 'workerinput'):
        config.pluginmanager.register(Failures(path))
    for marker in ('long: takes minutes; run by `make test-long`',
                   'gpu: needs a GPU; `pytest -m gpu` runs these alone'):
        config.addinivalue_line('markers', marker)


class Failures:
    """Writes every failure when it happens."""

    def __init__(self, path):
        self.path = path
        path.write_text('')

    def pytest_runtest_logreport(self, report):
        if report.failed:
            with self.path.open('a') as file:
                file.write(f'=== {report.nodeid} ({report.when})\n'
                           f'{str(report.longrepr)[-3000:]}\n')


def pytest_collection_modifyitems(config, items):
    for item in items:
        if 'long' in item.keywords:
            item.add_marker(pytest.mark.timeout(3600))
        if 'gpu' in item.keywords and not torch.cuda.is_available():
            item.add_marker(
                pytest.mark.skip(reason='needs a GPU: run `pytest -m gpu`'))
    if config.getoption('--long'):
        return
    skip = pytest.mark.skip(reason='takes minutes: run `make test-long`')
    for item in items:
        if 'long' in item.keywords:
            item.add_marker(skip)


def pytest_collection_finish(session):
    # every data set of MMEngine collects garbage: half a second over all the
    # objects that imports have left, milliseconds without them
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seeded():
    """Every test has the same random numbers, alone and after others."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def no_gpu_needed(monkeypatch):
    """Mixed precision where there is no GPU: the CPU has all of it, too."""
    if torch.cuda.is_available():
        return
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available',
                        lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler',
                        partial(torch.amp.GradScaler, 'cpu'))


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    """A Runner sets a default scope for the rest of the process."""
    yield
    DefaultScope._instance_dict.clear()
