# Copyright (c) sdd_mm contributors. All rights reserved.
"""A work dir belongs to one run at a time."""
import subprocess
import sys

import pytest

from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.work_dir import LOCK, hold

HOLD = """
import fcntl, os, sys, time
file = open(sys.argv[1], 'a+')
fcntl.lockf(file, fcntl.LOCK_EX)
file.write('it')
file.flush()
if os.fork():
    print('held', flush=True)
    time.sleep(60)
else:
    os.close(1)
    time.sleep(5)
"""


def test_two_runs_in_one_work_dir(tmp_path):
    child = subprocess.Popen([sys.executable, '-c', HOLD, tmp_path / LOCK],
                             stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'held\n'
    with pytest.raises(PreflightError, match='belongs to another run .it'):
        hold(str(tmp_path))
    child.kill()
    child.wait()
    # a killed one lets it go, though its workers live on
    hold(str(tmp_path)).close()
