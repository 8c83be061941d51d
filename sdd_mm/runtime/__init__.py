# Copyright (c) sdd_mm contributors. All rights reserved.
"""Reliable and fast training for any run of MMEngine.

Nothing here knows what is trained: this package imports nothing of the rest
of sdd_mm. One config fragment, ``configs/_base_/hooks.py``, turns its hooks
on; ``DeferredOptimWrapper`` belongs to them.

- ``ExactResumeHook``: a run that was stopped or killed and resumed is the
  run that was not. Its checkpoints are written atomically.
- ``FiniteLossHook``: a run ends before a number that is not finite is saved.
- ``LabelCheckHook``: a label that is no class ends the run with its sample.
- ``DeferredScalarsHook``: no step waits for the device to log its losses.
- :func:`~.work_dir.lock_work_dir` and :func:`~.checkpoints.newest_checkpoint`
  are for command lines: one run in a work dir, and what it resumes from.

MMEngine has no public way to some of what they need. These are the private
names that they reach into, as mmengine 0.10.7 and onedl-mmengine 0.10.12 have
them; :func:`~.private_names.check_mmengine` looks for them when a run starts
and refuses another MMEngine with one sentence.

===================  ============================  ==========================
class                name                          what for
===================  ============================  ==========================
Runner               _train_loop                   the loop before it is built
Runner               _hooks                        their order
Runner               _resume                       resuming is not loading
EpochBasedTrainLoop  _decide_current_val_interval  a validation that is due
IterBasedTrainLoop   _decide_current_val_interval  a validation that is due
InfiniteSampler      _indices_of_rank              its beginning
OptimWrapper         _inner_count                  gradients that accumulate
OptimWrapper         _clip_grad                    a norm that is not read
MessageHub           _log_scalars                  other histories
MessageHub           _set_resumed_keys             as update_scalar does
MessageHub           _get_valid_value              as update_scalar does
HistoryBuffer        _log_history                  made when it is read
HistoryBuffer        _count_history                made when it is read
HistoryBuffer        _set_default_statistics       as its constructor does
===================  ============================  ==========================
"""
from .hooks import (DeferredScalarsHook, ExactResumeHook, FiniteLossHook,
                    LabelCheckHook)
from .optim_wrappers import DeferredAmpOptimWrapper, DeferredOptimWrapper

__all__ = [
    'DeferredAmpOptimWrapper', 'DeferredOptimWrapper', 'DeferredScalarsHook',
    'ExactResumeHook', 'FiniteLossHook', 'LabelCheckHook'
]
