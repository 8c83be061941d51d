# Copyright (c) sdd_mm contributors. All rights reserved.
from .outputs import (Outputs, TrainedRun, add_run_arguments, evenly_spaced,
                      labels_of, load_run, validation_loader, validation_of)

__all__ = [
    'Outputs', 'TrainedRun', 'add_run_arguments', 'labels_of', 'load_run',
    'evenly_spaced', 'validation_loader', 'validation_of'
]
