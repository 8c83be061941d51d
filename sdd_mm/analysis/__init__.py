# Copyright (c) sdd_mm contributors. All rights reserved.
from .outputs import Outputs, TrainedRun, load_run, validation_loader

__all__ = ['Outputs', 'TrainedRun', 'load_run', 'validation_loader']
