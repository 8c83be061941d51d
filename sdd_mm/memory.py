# Copyright (c) sdd_mm contributors. All rights reserved.
"""How much memory there is, and how to say it."""
import os


def available_memory() -> int:
    """Bytes of memory that can be taken without swapping."""
    try:
        with open('/proc/meminfo') as file:
            for line in file:
                if line.startswith('MemAvailable:'):
                    return int(line.split()[1]) * 1024
    except OSError:  # no Linux
        pass
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def size_text(num_bytes: int) -> str:
    """A size for a message."""
    if num_bytes < 1e9:
        return f'{num_bytes / 1e6:.3g} MB'
    return f'{num_bytes / 1e9:.2f} GB'
