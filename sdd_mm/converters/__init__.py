# Copyright (c) sdd_mm contributors. All rights reserved.
from .checkpoint import ConversionError, convert, convert_file

__all__ = ['ConversionError', 'convert', 'convert_file']
