# Copyright (c) sdd_mm contributors. All rights reserved.
"""Checkpoints of a work dir: how they are written, which are intact."""
import logging
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Optional, Union
from uuid import uuid4

import torch
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log

from .errors import CheckpointError

STOPPED = 'stopped.pth'
RESUMABLE = re.compile(rf'(epoch|iter)_\d+\.pth|{STOPPED}')

ATOMIC = dict(backend='atomic_local')
"""``backend_args`` of a ``CheckpointHook`` whose files are never partial."""


@register_backend('atomic_local')
class AtomicBackend(LocalBackend):
    """Local files that hold the old content or the new, never a part of it.

    What is written goes to a draft beside the file, and takes the file's place
    when it is on the disk. A symbolic link stays one, and its target changes;
    what is no regular file (a FIFO, a device) is written as ``LocalBackend``
    writes it.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes to a file."""
        path = Path(os.path.realpath(filepath))
        if path.exists() and not path.is_file():
            return super().put(obj, filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f'.{path.name}.{uuid4().hex}.part')
        try:
            with open(draft, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def put_text(self,
                 obj: str,
                 filepath: Union[str, Path],
                 encoding: str = 'utf-8') -> None:
        """Write text to a file."""
        self.put(obj.encode(encoding), filepath)


def write_atomically(runner) -> None:
    """Let the ``CheckpointHook`` of a run write through ``AtomicBackend``.

    One that writes elsewhere (``backend_args``, ``out_dir='s3://...'``) is
    left as it is.
    """
    for hook in runner.hooks:
        if (isinstance(hook, CheckpointHook) and hook.backend_args is None
                and hook.file_client_args is None
                and type(get_file_backend(
                    hook.out_dir or runner.work_dir)) is LocalBackend):
            hook.backend_args = ATOMIC


def is_whole(path: str) -> bool:
    """Whether a checkpoint can be read.

    What every part of it holds is compared with its checksum, as Python and
    as torch read it: torch trusts headers that say where a part lies.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return False
            parts = file.infolist()
        reader = torch._C.PyTorchFileReader(str(path))
        for part in parts:
            name = part.filename.partition('/')[2]
            if zlib.crc32(reader.get_record(name)) != part.CRC:
                return False
        torch.load(path, map_location='cpu')
    except Exception:  # damaged files raise anything
        return False
    return True


def newest_checkpoint(work_dir: str) -> Optional[str]:
    """The newest whole checkpoint of a run; it says which it skips.

    Args:
        work_dir (str): Where the run saves. Only what a run goes on from
            counts: ``epoch_N.pth``, ``iter_N.pth`` and ``stopped.pth``.

    Raises:
        CheckpointError: If there are some, and none is whole.

    Returns:
        str | None: Its path, None if there is none.
    """
    found = sorted((path for path in Path(work_dir).glob('*.pth')
                    if RESUMABLE.fullmatch(path.name)),
                   key=lambda path: path.stat().st_mtime_ns,
                   reverse=True)
    for path in found:
        if is_whole(path):
            return str(path)
        print_log(
            f'{path} is broken (cut off, or damaged) and skipped: the run '
            'goes on from the one before',
            logger='current',
            level=logging.WARNING)
    if found:
        raise CheckpointError(
            f'all of the {len(found)} checkpoints of {work_dir} are broken '
            f'({", ".join(path.name for path in found)}): remove them to '
            'start anew')
    return None
