# Copyright (c) sdd_mm contributors. All rights reserved.
"""How much memory a process may take."""
import math

import pytest

from sdd_mm import memory

STAT = 'anon 5\nactive_file 20\ninactive_file 10\n'
V1_STAT = STAT + 'total_active_file 200\ntotal_inactive_file 100\n'


@pytest.mark.parametrize('files, room', [
    ({}, math.inf),
    ({
        'memory.max': 'max\n',
        'memory.current': '500\n',
        'memory.stat': STAT
    }, math.inf),
    ({
        'memory.max': '1000\n',
        'memory.current': '900\n',
        'memory.stat': STAT
    }, 130),
    ({
        'memory.max': '1000\n',
        'memory.current': '1100\n',
        'memory.stat': STAT
    }, 0),
    ({
        'memory/memory.limit_in_bytes': '1000\n',
        'memory/memory.usage_in_bytes': '900\n',
        'memory/memory.stat': V1_STAT
    }, 400),
])
def test_memory_of_a_container(tmp_path, files, room):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory._container_memory(tmp_path) == room


def test_processes_share_it(monkeypatch):
    monkeypatch.setattr(memory, '_machine_memory', lambda: 1000)
    monkeypatch.setattr(memory, '_container_memory', lambda: 600)
    assert memory.available_memory() == 600
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    assert memory.available_memory() == 150


def test_this_machine_has_some():
    assert 2**20 < memory.available_memory() < 2**50
