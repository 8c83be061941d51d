# Copyright (c) sdd_mm contributors. All rights reserved.
"""The version of sdd_mm, in one place."""

__version__ = '0.1.0'
