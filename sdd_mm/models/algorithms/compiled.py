# Copyright (c) sdd_mm contributors. All rights reserved.
"""``torch.compile`` for networks that recorders listen to."""
import torch
from torch import nn


def check_compiles(key: str) -> None:
    """Refuse a torch that cannot compile modules.

    Args:
        key (str): The config key that asked for it.

    Raises:
        ValueError: If this torch cannot.
    """
    if not hasattr(nn.Module, 'compile'):
        raise ValueError(f'{key} needs torch 2.1 or newer, this is '
                         f'{torch.__version__}')


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
