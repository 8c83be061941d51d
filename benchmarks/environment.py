# Copyright (c) sdd_mm contributors. All rights reserved.
"""Hardware, versions and commit of a measurement."""
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict:
    """Hardware and versions, with the load of the last minute."""
    import torch
    gpu = torch.cuda.is_available()
    return dict(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if gpu else None,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if gpu else None,
        **{
            name: version(name)
            for name in ('mmengine', 'mmpretrain', 'mmrazor')
        },
        commit=_commit(),
        load=round(os.getloadavg()[0], 1))


def versions(known: dict) -> str:
    """Versions of an environment in words."""
    return ', '.join(f'{name} {known[name]}'
                     for name in ('torch', 'cuda', 'mmengine', 'mmpretrain',
                                  'mmrazor') if known[name])


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [
        line.split(':')[1].strip() for line in lines
        if line.startswith('model name')
    ]
    return names[0] if names else platform.machine()


def _commit() -> Optional[str]:
    """The commit of the checkout, with a + where files differ from it."""
    try:
        return subprocess.run(
            ['git', 'describe', '--always', '--dirty=+', '--abbrev=10'],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
