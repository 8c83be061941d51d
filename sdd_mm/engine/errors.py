# Copyright (c) sdd_mm contributors. All rights reserved.


class PreflightError(RuntimeError):
    """A set-up that cannot be right, found before training."""
