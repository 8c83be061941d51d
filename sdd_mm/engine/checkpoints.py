# Copyright (c) sdd_mm contributors. All rights reserved.
"""Checkpoints of a work dir, and which of them are whole."""
import logging
import re
import zipfile
import zlib
from pathlib import Path
from typing import Optional

import torch
from mmengine.logging import print_log

from .errors import PreflightError

STOPPED = 'stopped.pth'
RESUMABLE = re.compile(rf'(epoch|iter)_\d+\.pth|{STOPPED}')


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
        PreflightError: If there are some, and none is whole.

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
        raise PreflightError(
            f'all of the {len(found)} checkpoints of {work_dir} are broken '
            f'({", ".join(path.name for path in found)}): remove them to '
            'start anew')
    return None
