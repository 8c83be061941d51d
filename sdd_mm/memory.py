# Copyright (c) sdd_mm contributors. All rights reserved.
"""How much memory there is, and how to say it."""
import math
import os
from pathlib import Path

# limit and use of a container, by control groups of version 2 and 1
CONTAINER = (('memory.max', 'memory.current'),
             ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'))


def available_memory() -> int:
    """Bytes of memory that a process can take without swapping.

    The processes of a run on one machine share what there is, on the machine
    or in its container.
    """
    room = min(_machine_memory(), _container_memory())
    return room // int(os.environ.get('LOCAL_WORLD_SIZE', 1))


def _machine_memory() -> int:
    try:
        for line in Path('/proc/meminfo').read_text().splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    except OSError:  # no Linux
        pass
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def _container_memory(root: Path = Path('/sys/fs/cgroup')) -> float:
    for limit, used in CONTAINER:
        try:
            facts = (root / limit).with_name('memory.stat').read_text()
            limit, used = ((root / name).read_text() for name in (limit, used))
            facts = dict(line.split() for line in facts.splitlines())
            # pages of files are given back when memory is wanted
            pages = sum(
                int(facts.get(f'total_{name}', facts.get(name, 0)))
                for name in ('active_file', 'inactive_file'))
            # 'max', which is no number: no limit
            return max(0, int(limit) - int(used) + pages)
        except (OSError, ValueError):
            continue
    return math.inf


def size_text(num_bytes: int) -> str:
    """A size for a message."""
    if num_bytes < 1e9:
        return f'{num_bytes / 1e6:.3g} MB'
    return f'{num_bytes / 1e9:.2f} GB'
