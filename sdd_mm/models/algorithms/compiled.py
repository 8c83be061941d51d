# Copyright (c) sdd_mm contributors. All rights reserved.
"""``torch.compile`` for networks that recorders listen to."""
from typing import Union

from torch import nn


def compile_student(student: nn.Module, options: Union[bool, dict]) -> None:
    """Compile a student's backbone, once its recorders listen.

    Args:
        student (nn.Module): The student.
        options (bool | dict): The config key ``model.compile_student``.

    Raises:
        ValueError: If there is no backbone, or ``options`` is neither a bool
            nor a dict.
    """
    if options is False:
        return
    key = 'model.compile_student'
    if options is not True and not isinstance(options, dict):
        raise ValueError(f'{key} must be True, False or a dict of '
                         f'torch.compile\'s arguments, got {options!r}')
    if not isinstance(getattr(student, 'backbone', None), nn.Module):
        raise ValueError(f'{key}: {type(student).__name__} has no `backbone` '
                         'to compile: leave it out')
    compile_backbone(student, **({} if options is True else options))


def compile_backbone(model: nn.Module, **options) -> None:
    """Compile a classifier's backbone in place; its weights keep their names.

    Pooling and head stay as they are, where recorders listen.

    Args:
        model (nn.Module): A classifier.
        **options: Arguments of ``torch.compile``.
    """
    from torch._dynamo import config

    # networks of one class share what was compiled. Without this guard one
    # whose modules have hooks gets the code of one whose modules have none
    config.skip_nnmodule_hook_guards = False
    model.backbone.compile(**options)
