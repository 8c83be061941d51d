# Copyright (c) sdd_mm contributors. All rights reserved.
from .outputs import (Outputs, TrainedRun, labels_of, load_run, spread,
                      validation_loader, validation_of)

__all__ = [
    'Outputs', 'TrainedRun', 'labels_of', 'load_run', 'spread',
    'validation_loader', 'validation_of'
]
