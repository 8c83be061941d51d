# Copyright (c) sdd_mm contributors. All rights reserved.
"""How much memory is free, and sizes as text."""
import math
import os
from pathlib import Path

# files with the limit and the use of a container, in cgroups v2 and v1
CONTAINER = (('memory.max', 'memory.current'),
             ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'))


def available_memory() -> int:
    """Bytes that this process can take without swapping.

    The processes of a run on one machine (``LOCAL_WORLD_SIZE``) share what is
    free on the machine or in its container.
    """
    free = min(_machine_memory(), _container_memory())
    return free // int(os.environ.get('LOCAL_WORLD_SIZE', 1))


def _machine_memory() -> int:
    try:
        for line in Path('/proc/meminfo').read_text().splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def _container_memory(root: Path = Path('/sys/fs/cgroup')) -> float:
    for limit, used in CONTAINER:
        try:
            lines = (root / limit).with_name('memory.stat').read_text()
            limit, used = ((root / name).read_text() for name in (limit, used))
            facts = dict(line.split() for line in lines.splitlines())
            # the kernel frees pages of files when memory is needed
            pages = sum(
                int(facts.get(f'total_{name}', facts.get(name, 0)))
                for name in ('active_file', 'inactive_file'))
            # without a limit it says 'max', which raises ValueError
            return max(0, int(limit) - int(used) + pages)
        except (OSError, ValueError):
            continue
    return math.inf


def size_text(num_bytes: int) -> str:
    """A size for a message, in MB or GB."""
    if num_bytes < 1e9:
        return f'{num_bytes / 1e6:.3g} MB'
    return f'{num_bytes / 1e9:.2f} GB'
