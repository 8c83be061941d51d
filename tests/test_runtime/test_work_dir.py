# Copyright (c) sdd_mm contributors. All rights reserved.
"""A work dir belongs to one run at a time."""
import subprocess
import sys

import pytest

from sdd_mm.runtime.errors import WorkDirError
from sdd_mm.runtime.work_dir import LOCK, lock_work_dir

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
    with pytest.raises(WorkDirError, match='belongs to another run .it'):
        lock_work_dir(str(tmp_path))
    child.kill()
    child.wait()
    # a killed one lets it go, though its workers live on
    lock_work_dir(str(tmp_path)).close()
