# Copyright (c) sdd_mm contributors. All rights reserved.
"""A work dir belongs to one run at a time."""
import errno
import fcntl
import os
import os.path as osp
from typing import IO

from .errors import WorkDirError

LOCK = '.lock'


def lock_work_dir(work_dir: str) -> IO:
    """Make a work dir and lock it for as long as the returned file is open.

    The system unlocks it when the process ends, however it ends.

    Args:
        work_dir (str): Where a run writes.

    Raises:
        WorkDirError: If it cannot be written, or another run has locked it.

    Returns:
        IO: The lock. Closing it, or ending, unlocks the work dir.
    """
    path = osp.join(work_dir, LOCK)
    try:
        os.makedirs(work_dir, exist_ok=True)
        file = open(path, 'a+')
    except OSError as error:
        raise WorkDirError(f'work_dir {work_dir} cannot be written: {error}. '
                           'Set another --work-dir') from error
    try:
        # not flock: the workers of a killed run would go on holding it
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            file.close()
            raise WorkDirError(
                f'{path} cannot be locked: {error}. Set a '
                '--work-dir on a file system that locks files') from error
        file.seek(0)
        owner = file.read().strip()
        file.close()
        raise WorkDirError(
            f'work_dir {work_dir} belongs to another run ({owner}): both '
            'would write the same checkpoints. Wait for it, or set another '
            '--work-dir') from error
    file.truncate(0)
    file.write(f'process {os.getpid()} on {os.uname().nodename}')
    file.flush()
    return file
