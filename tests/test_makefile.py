# Copyright (c) sdd_mm contributors. All rights reserved.
"""What make would install, and where."""
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ('install', 'demo', 'test', 'test-long', 'benchmark', 'docs', 'lint')
pytestmark = pytest.mark.skipif(
    shutil.which('make') is None, reason='needs make')


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose environment is complete."""
    root = tmp_path / 'checkout'
    root.mkdir()
    for name in ('Makefile', 'setup.py'):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / 'requirements', root / 'requirements')
    for name in ('bin/python', '.installed', '.installed-docs',
                 '.installed-lint'):
        path = root / '.venv' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    return root


def make(root, *arguments):
    return subprocess.run(['make', '-C', root, *arguments],
                          capture_output=True,
                          text=True)


def plan(root, target):
    """The commands that make would run."""
    result = make(root, '--dry-run', target)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_second_call_installs_nothing(checkout):
    for target in TARGETS:
        assert 'pip' not in plan(checkout, target), target
    (checkout / '.venv' / '.installed-docs').unlink()
    assert 'requirements/docs.txt' in plan(checkout, 'docs')
    assert 'pip' not in plan(checkout, 'test')
    (checkout / '.venv' / '.installed').unlink()
    for target in TARGETS:
        assert "-e '.[demo,tests]'" in plan(checkout, target), target


def test_a_linked_environment_is_refused(checkout, tmp_path):
    other = tmp_path / 'other'
    (checkout / '.venv').rename(other)
    (checkout / '.venv').symlink_to(other)
    (other / '.installed').unlink()
    before = sorted(other.rglob('*'))
    for target in TARGETS:
        result = make(checkout, target)
        assert result.returncode == 2
        assert f'.venv is a symbolic link to {other}' in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not result.stdout.count('pip')
    assert sorted(other.rglob('*')) == before
