# Copyright (c) sdd_mm contributors. All rights reserved.
"""The base of the errors that a config, a file or a machine is to blame for.

Each says in one sentence what to change, and is also a built-in, such as a
``RuntimeError``. Arguments that are wrong in themselves raise plain built-in
errors.
"""
from .runtime.errors import SDDError

__all__ = ['SDDError']
