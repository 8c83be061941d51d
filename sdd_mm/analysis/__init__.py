# Copyright (c) sdd_mm contributors. All rights reserved.
from .outputs import Outputs
from .trained_run import TrainedRun, load_run
from .validation import (evenly_spaced, labels_of, validation_loader,
                         validation_of)

__all__ = [
    'Outputs', 'TrainedRun', 'evenly_spaced', 'labels_of', 'load_run',
    'validation_loader', 'validation_of'
]
