# Copyright (c) sdd_mm contributors. All rights reserved.
"""The base of all errors that this package raises on purpose.

``except SDDError`` catches what a config, a file or a machine is to blame
for, each with one sentence that says what to change. Every error is also the
built-in that it always was, a ``RuntimeError`` or a ``ValueError``.
"""
from .runtime.errors import SDDError

__all__ = ['SDDError']
