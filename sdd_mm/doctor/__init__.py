# Copyright (c) sdd_mm contributors. All rights reserved.
"""Looks at an installation and, given a config, at what would be trained.

    python -m sdd_mm.doctor                         # the installation
    python -m sdd_mm.doctor configs/demo/sd-kd.py   # what it would train

Nothing is written. The exit code is 1 if something cannot be right.

This module and ``__main__`` import nothing that takes time: arguments are
parsed first.
"""
from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the report.

    Args:
        mark (str): One of ``MARKS``.
        title (str): What was looked at.
        text (str): What was found.
    """
    mark: str
    title: str
    text: str


GOOD, FACT, WARN, BAD = MARKS = ('ok', '', 'warning', 'error')
ENOUGH = 250  # images to try a teacher on
