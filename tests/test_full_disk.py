# Copyright (c) sdd_mm contributors. All rights reserved.
"""A disk that is really full while a checkpoint is saved."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALONE = ['unshare', '--user', '--map-root-user', '--mount']


def may_mount():
    if shutil.which('unshare') is None:
        return False
    return subprocess.run([*ALONE, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'],
                          capture_output=True).returncode == 0


@pytest.mark.skipif(
    not may_mount(), reason='may not mount a disk of its own (unshare)')
def test_a_full_disk_loses_nothing(tmp_path):
    result = subprocess.run([
        *ALONE, sys.executable, ROOT / 'tests' / 'helpers' / 'full_disk.py',
        tmp_path
    ],
                            env=dict(os.environ, PYTHONPATH=str(ROOT)),
                            capture_output=True,
                            text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    full, room = found['full'], found['room']
    said = full['said'].splitlines()[-1]
    assert full['code'] == 1 and 'make room, and go on with --resume' in said
    assert 'No space left on device' in said
    # what it says is there, is; nothing is half written
    saved = [name for name in full['files'] if name.endswith('.pth')]
    assert 0 < len(saved) < 6 and f'/{saved[-1]}: make room' in said
    assert not [name for name in full['files'] if name.endswith('.part')]
    assert room['code'] == 0, room['said']
    assert f'{saved[-1]}' in room['said']
    assert 'epoch_6.pth' in room['files']
