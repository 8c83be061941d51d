# Copyright (c) sdd_mm contributors. All rights reserved.
"""Where networks of two packages keep their head, and how they give logits.

MMPretrain's classifiers have a ``head`` and take images. mmaction2's
recognizers have a ``cls_head``, take clips, and give logits only if they are
asked for the stage of their head. All that differs is here and in
``recorders/find_head.py``. mmaction2 need not be installed.
"""
import sys
from typing import List, Optional

from torch import Tensor, nn

from ..errors import SDDError

FORMATS = dict(Recognizer2D='NCHW', Recognizer3D='NCTHW')
"""The ``format_shape`` of the data preprocessor that a recognizer needs."""
MIXED = 'MIX2d3d'
"""The ``format_shape`` that tells images and clips apart by their shape."""


class ClipError(SDDError, ValueError):
    """Clips that would be taken for something else."""


def is_recognizer(model: nn.Module) -> bool:
    """Whether a model is a recognizer of mmaction2.

    Args:
        model (nn.Module): Any model.

    Returns:
        bool: Also False if mmaction2 has not been imported.
    """
    base = sys.modules.get('mmaction.models.recognizers.base')
    return base is not None and isinstance(model, base.BaseRecognizer)


def members_of(model: nn.Module) -> List[nn.Module]:
    """The teachers of a ``TeacherEnsemble``; any other model alone."""
    return list(getattr(model, 'members', [model]))


def network_name(model: nn.Module) -> str:
    """The class of what is inside a classifier, for a reader."""
    inside = plain_module(model)
    return type(inside or getattr(model, 'backbone', model)).__name__


def plain_module(model: nn.Module) -> Optional[nn.Module]:
    """The module of a ``ModuleClassifier``; None of any other model."""
    return getattr(model, 'plain_module', None)


def classes_key(model: nn.Module) -> str:
    """The key of the number of classes in a model's config."""
    if plain_module(model) is not None:
        return 'num_classes'
    return f'{head_name(model)}.num_classes'


def head_name(model: nn.Module) -> str:
    """The name of a model's head, 'head' or 'cls_head'."""
    return 'cls_head' if is_recognizer(model) else 'head'


def head_of(model: nn.Module) -> Optional[nn.Module]:
    """The head of a model, None if it has none."""
    return getattr(model, head_name(model), None)


def class_count(model: nn.Module) -> Optional[int]:
    """The number of classes of a model's head, None if it does not say."""
    return getattr(head_of(model), 'num_classes', None)


def logits_of(model: nn.Module, inputs: Tensor, data_samples=None) -> Tensor:
    """Run a whole network.

    Args:
        model (nn.Module): A classifier or a recognizer.
        inputs (Tensor): Images, (B, C, H, W), or one clip for each sample,
            (B, 1, C, T, H, W).
        data_samples (list, optional): Their data samples. Defaults to None.

    Returns:
        Tensor: Its logits, (B, K).
    """
    stage = dict(stage='head') if is_recognizer(model) else {}
    return model(inputs, data_samples, mode='tensor', **stage)


def check_clip_format(student: nn.Module,
                      preprocessor: Optional[nn.Module]) -> None:
    """Refuse a data preprocessor that would take frames for channels.

    Args:
        student (nn.Module): The student.
        preprocessor (nn.Module, optional): Its data preprocessor.

    Raises:
        ClipError: If the student is a recognizer of clips, and that is not
            what the data preprocessor takes.
    """
    kinds = {kind.__name__ for kind in type(student).__mro__}
    wanted = [FORMATS[kind] for kind in FORMATS if kind in kinds]
    found = getattr(preprocessor, 'format_shape', None)
    if is_recognizer(student) and wanted and found not in (*wanted, MIXED):
        raise ClipError(
            f'data_preprocessor {type(preprocessor).__name__} '
            f'(format_shape={found!r}) would take another axis of the clips '
            f'of the student {type(student).__name__} for their channels: set '
            "model.data_preprocessor to dict(_scope_='mmaction', type="
            f"'ActionDataPreprocessor', format_shape={wanted[0]!r}, ...)")
