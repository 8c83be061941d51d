# Copyright (c) sdd_mm contributors. All rights reserved.
from .sdd_distiller import SDDDistiller

__all__ = ['SDDDistiller']
