# Copyright (c) sdd_mm contributors. All rights reserved.
"""tools/benchmark/gpu.py ends in time, goes on, and leaves few files."""
import json
import runpy
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_reproduce import MINIATURE

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'benchmark')]
import gpu  # noqa: E402


def arguments(tmp_path, minutes, *more):
    return gpu.parse_args([
        '--minutes',
        str(minutes), '--out',
        str(tmp_path / 'out'), '--work-dir',
        str(tmp_path / 'work'), *more
    ])


def test_a_command_is_stopped_when_the_time_is_over(tmp_path, capsys):
    parts = gpu.Parts(arguments(tmp_path, (gpu.RESERVE + 2) / 60))
    start = time.monotonic()
    slow = 'import time; print("began", flush=True); time.sleep(60)'
    assert not parts.call('slow', '-c', slow)
    assert time.monotonic() - start < 15
    assert not parts.call('late', '-c', 'raise SystemExit(0)')
    assert 'it was stopped' in parts.found[0] and 'left out' in parts.found[1]
    parts.pack()
    assert (tmp_path / 'work/gpu/slow.log').read_text().startswith('began')
    assert (tmp_path / 'out/summary.txt').read_text().count('\n') == 1
    with tarfile.open(tmp_path / 'out/results.tar.gz') as tar:
        assert 'gpu/slow.log' in tar.getnames()


def test_results_are_packed_while_a_command_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, 'PACKED_EVERY', 0.5)
    parts = gpu.Parts(arguments(tmp_path, 2))
    packed = tmp_path / 'out' / 'results.tar.gz'
    waits = ('import pathlib, time\nprint("began", flush=True)\n'
             f'while not pathlib.Path({str(packed)!r}).exists(): '
             'time.sleep(0.1)')
    assert parts.call('waits', '-c', waits)
    with tarfile.open(packed) as tar:
        assert 'gpu/waits.log' in tar.getnames()


def test_failures_are_written_down_at_once(tmp_path):
    path = tmp_path / 'failures.txt'
    known = runpy.run_path(str(ROOT / 'tests' / 'conftest.py'))
    failures = known['Failures'](path)
    for failed in (True, False, True):
        failures.pytest_runtest_logreport(
            SimpleNamespace(
                failed=failed, nodeid='a.py::b', when='call', longrepr='x'))
    assert path.read_text() == 2 * '=== a.py::b (call)\nx\n'
    parts = gpu.Parts(
        arguments(tmp_path, 2, '--pytest', 'tests/test_structures.py'))
    parts.tests()
    assert ' passed' in parts.found[1] and len(parts.found) == 2
    assert (tmp_path / 'work/gpu/failures.txt').read_text() == ''


def test_a_teacher_of_half_the_bytes(tmp_path):
    weight = torch.randn(200, 100)
    torch.save(
        dict(state_dict=dict(weight=weight, count=torch.tensor(3))),
        tmp_path / 'whole.pth')
    gpu.half(tmp_path / 'whole.pth', tmp_path / 'half.pth')
    found = torch.load(tmp_path / 'half.pth')['state_dict']
    assert torch.equal(found['weight'], weight.half())
    assert found['count'] == 3
    sizes = [(tmp_path / f'{name}.pth').stat().st_size
             for name in ('half', 'whole')]
    assert sizes[0] < 0.6 * sizes[1]


def test_every_row_has_its_turn():
    assert sorted(gpu.ORDER) == sorted(gpu.ROWS)


@pytest.mark.long
def test_a_rehearsal(tmp_path):
    """A speed row and a suite; called again, nothing is trained twice."""
    suite = tmp_path / 'small.py'
    suite.write_text(MINIATURE)
    given = ('--tiny', '--parts', 'speed', 'train', '--rows', 'loss',
             '--suite', str(suite), '--jobs', '2')
    for _ in range(2):
        parts = gpu.Parts(arguments(tmp_path, 5, *given))
        for name in parts.args.parts:
            getattr(parts, name)()
        parts.pack()
    files = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert files == ['results.tar.gz', 'summary.txt', 'teacher.pth']
    text = '\n'.join(parts.found)
    assert 'train: ' in text and 'exit code 0' in text
    assert 'epochs are done' not in text  # the second time
    table = json.loads((tmp_path / 'work/small/small.json').read_text())
    assert len(table['rows'][0]['runs']) == 1
