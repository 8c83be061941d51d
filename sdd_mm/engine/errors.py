# Copyright (c) sdd_mm contributors. All rights reserved.
from ..errors import SDDError


class PreflightError(SDDError, RuntimeError):
    """A set-up that cannot be right, found before training."""
