# Copyright (c) sdd_mm contributors. All rights reserved.
"""Configs of networks and data preprocessors, completed as MMPretrain's."""
from copy import deepcopy
from typing import Dict, List, Union

from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmpretrain.models import ClsDataPreprocessor
from mmrazor.registry import MODELS

from ..networks import members_of
from .teacher import TeacherError


def mmpretrain(model: Union[BaseModel, Dict, None]):
    """A model config, in MMPretrain's scope if it names none."""
    if isinstance(model, dict) and 'cfg_path' in model:
        # MMEngine takes other keys as defaults, which the file overrides
        lost = set(model) - {'cfg_path', 'pretrained', '_scope_'}
        if lost:
            raise TeacherError(
                f'{sorted(lost)} beside cfg_path={model["cfg_path"]!r} would '
                'have no effect: inherit the config and change its `model` '
                'instead')
    elif isinstance(model, dict):
        model = deepcopy(model)
        model.setdefault('_scope_', 'mmpretrain')
    return model


def states_format(teacher) -> List[bool]:
    """For each teacher of a config, whether it says how it takes images."""
    if isinstance(teacher, dict) and 'teachers' in teacher:
        return [
            one for part in teacher['teachers'] for one in states_format(part)
        ]
    if not isinstance(teacher, dict):
        return [False for _ in members_of(teacher)]
    return [
        'cfg_path' in teacher or teacher.get('data_preprocessor') is not None
    ]


def preprocessor_config(preprocessor, architecture):
    """A data preprocessor's config as ``ImageClassifier`` completes it."""
    if isinstance(preprocessor, dict):
        preprocessor = deepcopy(preprocessor)
        preprocessor.setdefault('_scope_', 'mmpretrain')
        preprocessor.setdefault('type', 'AsyncClsDataPreprocessor')
        if isinstance(architecture, dict) and _augments(preprocessor):
            if 'cfg_path' in architecture:
                architecture = get_config(architecture['cfg_path']).model
            # of two inputs, the student's may have a part of its own
            if 'batch_augments' not in (preprocessor.get('student') or {}):
                preprocessor.setdefault('batch_augments',
                                        architecture.get('train_cfg'))
    return preprocessor


def _augments(preprocessor: dict) -> bool:
    """Whether a data preprocessor is MMPretrain's, or derived from it."""
    kind = preprocessor['type']
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(
                preprocessor['_scope_']) as registry:
            kind = registry.get(kind)
    # what is in no registry is refused when it is built
    return isinstance(kind, type) and issubclass(kind, ClsDataPreprocessor)
