# Copyright (c) sdd_mm contributors. All rights reserved.


class SDDError(Exception):
    """Base of the errors that a config, a file or a machine is to blame for.

    It stands here because ``runtime`` imports nothing of the rest, while
    everything may import ``runtime``. Elsewhere take it from
    ``sdd_mm.errors``.
    """


class WorkDirError(SDDError, RuntimeError):
    """A work dir that cannot be used."""


class CheckpointError(SDDError, RuntimeError):
    """Checkpoints of which none can be read."""


class UnsupportedMMEngineError(SDDError, RuntimeError):
    """An MMEngine that lacks what a hook reaches into."""


class NonFiniteError(SDDError, RuntimeError):
    """A loss or a gradient that is no finite number."""


class LabelError(SDDError, ValueError):
    """A label that is no class of the student's."""
