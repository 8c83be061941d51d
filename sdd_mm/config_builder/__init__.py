# Copyright (c) sdd_mm contributors. All rights reserved.
"""Writes the config that distills into the student of any config."""
from .builder import make_config
from .methods import METHODS
from .sources import ConfigBuilderError

__all__ = ['METHODS', 'ConfigBuilderError', 'make_config']
