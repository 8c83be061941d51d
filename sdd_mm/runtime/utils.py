# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional

from mmengine.hooks import LoggerHook
from mmengine.model import is_model_wrapper
from torch import nn


def bare_model(runner) -> nn.Module:
    """The runner's model without its distributed wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def num_classes(model: nn.Module) -> Optional[int]:
    """Classes of the head of a student, or of a network alone."""
    student = getattr(model, 'architecture', model)
    # a recognizer of mmaction2 has a cls_head
    head = getattr(student, 'head', getattr(student, 'cls_head', None))
    return getattr(head, 'num_classes', None)


def log_interval(runner) -> int:
    """Iterations between two log lines."""
    return next((hook.interval
                 for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)
