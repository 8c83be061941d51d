# Copyright (c) sdd_mm contributors. All rights reserved.
from .checkpoint import ConversionError, convert, convert_file
from .student import export_student

__all__ = ['ConversionError', 'convert', 'convert_file', 'export_student']
