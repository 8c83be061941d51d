# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a config is made from: a student's recipe and a teacher."""
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import mmengine.hub
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.logging import print_log
from mmengine.utils import get_installed_path

from ..config_file import is_new_style, load_config
from ..converters import ConversionError
from ..converters.hugging_face import hugging_face_teacher
from ..converters.timm_classifier import (AbsentModelError, NoMapError,
                                          timm_logits_teacher, timm_teacher)
from ..converters.timm_region import timm_region_teacher
from ..converters.timm_tokens import TailError, timm_tokens_teacher
from ..errors import SDDError
from ..images import student_arguments

TIMM, HUGGING_FACE = 'timm::', 'hf::'
REGION = (". To apply it to every cell, which is not the paper's SDD, pass "
          "teacher_recorder=dict(type='RegionHead') (--teacher-recorder "
          'type=RegionHead)')
LOGITS = '. The methods kd, dkd and nkd need its logits alone'


class ConfigBuilderError(SDDError, ValueError):
    """A config that cannot be written, with the reason."""


def read_student(path: str) -> Config:
    """The config that trains the student alone."""
    cfg = _read('student', path)
    if '::' not in path and is_new_style(path):
        raise ConfigBuilderError(
            f'student {path} imports the classes it uses, and no config can '
            'inherit such a file by _base_: write its types as names')
    if 'architecture' in cfg.model:
        raise ConfigBuilderError(
            f'student {path} already is a {cfg.model.type}: pass the config '
            'that trains the student alone')
    if cfg.get('load_from'):
        raise ConfigBuilderError(
            f'student {path} sets load_from={cfg.load_from!r}, which a '
            'FrozenTeacherDistill does not load into its student: set '
            "model.init_cfg=dict(type='Pretrained', checkpoint="
            f'{cfg.load_from!r}) instead')
    return cfg


def _read(role: str, path: str) -> Config:
    """A config by ``package::path`` or path."""
    try:
        if '::' in path:
            cfg = mmengine.hub.get_config(path)
        else:
            cfg = load_config(Path(path).expanduser())
    except Exception as error:  # a config file may raise anything
        raise ConfigBuilderError(f'{role} {path} cannot be read: '
                                 f'{type(error).__name__}: {error}') from error
    if not isinstance(cfg.get('model'), dict):
        raise ConfigBuilderError(f'{role} {path} has no `model`')
    return cfg


class Teacher(NamedTuple):
    """A teacher, the modules to import for it, the file it is from, and the
    recorder that it needs if the default finds no map."""
    model: dict
    imports: List[str]
    cfg: Config
    recorder: Optional[Dict[str, Any]] = None


def read_teacher(path: str,
                 num_classes: int,
                 to_rgb: bool,
                 logits_alone: bool = False,
                 region: bool = False,
                 cells: bool = True) -> Teacher:
    """The teacher of a config, of timm or of Hugging Face.

    Args:
        path (str): ``package::path``, a file, ``timm::MODEL``, or ``hf::`` and
            a folder that ``save_pretrained`` of transformers wrote.
        num_classes (int): The classes of a model of timm or Hugging Face.
        to_rgb (bool): Whether such a model gets images whose channels are to
            be reversed to RGB.
        logits_alone (bool): Whether the method compares logits of whole
            images alone, which any timm model has. Defaults to False.
        region (bool): Whether the teacher is recorded by ``RegionHead``.
            Defaults to False.
        cells (bool): Whether the method compares cells, which a
            ``RegionHead`` has. Defaults to True.
    """
    try:
        if path.startswith(TIMM):
            given = path[len(TIMM):], num_classes, to_rgb
            return _timm(given, logits_alone, region, cells)
        if path.startswith(HUGGING_FACE):
            folder = path[len(HUGGING_FACE):]
            return Teacher(
                hugging_face_teacher(folder, num_classes, to_rgb), [],
                Config())
    except ConversionError as error:
        raise ConfigBuilderError(f'teacher {path}: {error}') from error
    source = _read('teacher', path)
    if '::' in path and 'data_preprocessor' not in source.model:
        return Teacher(dict(cfg_path=path), [], source)
    cfg = source.to_dict()
    # the student of an earlier distillation may teach
    model = cfg['model'].get('architecture', cfg['model'])
    model.setdefault(
        'data_preprocessor',
        student_arguments(cfg['model'].get('data_preprocessor',
                                           cfg.get('data_preprocessor'))))
    # it is neither initialized nor trained
    for key in ('init_cfg', 'train_cfg'):
        model.pop(key, None)
    (model.get('backbone') or {}).pop('init_cfg', None)
    imports = cfg.get('custom_imports', dict()).get('imports', [])
    return Teacher(model, [imports] if isinstance(imports, str) else imports,
                   source)


def _timm(given: tuple, logits_alone: bool, region: bool,
          cells: bool) -> Teacher:
    try:
        return Teacher(timm_teacher(*given), [], Config())
    except AbsentModelError:
        raise
    except ConversionError as error:
        if logits_alone:
            return Teacher(timm_logits_teacher(*given), [], Config())
        refusal, advice = error, LOGITS
    tokens = isinstance(refusal, NoMapError)
    try:
        model, recorder = timm_tokens_teacher(
            *given, region) if tokens else timm_region_teacher(*given)
        if region or tokens:
            return Teacher(model, [], Config(), recorder)
        advice = REGION * cells + LOGITS
    except TailError as error:
        refusal, advice = error, REGION * cells + LOGITS
    except ConversionError as error:
        if region or tokens:
            refusal = error
    raise ConversionError(f'{refusal}{advice}') from refusal


def published_checkpoint(teacher: str) -> Optional[str]:
    """The checkpoint of a package's config, if just one is published."""
    if '::' not in teacher or teacher.startswith((TIMM, HUGGING_FACE)):
        return None
    package, path = teacher.split('::')
    configs = Path(get_installed_path(package), '.mim', 'configs')
    metafile = configs / path.split('/')[0] / 'metafile.yml'
    if not metafile.exists():
        return None
    found = {
        model['Name']: model['Weights']
        for model in load(metafile)['Models']
        if model.get('Config') == f'configs/{path}' and model.get('Weights')
    }
    if len(found) > 1:
        listed = ''.join(f'\n  {name}: {url}' for name, url in found.items())
        print_log(f'{len(found)} checkpoints are published for the teacher '
                  f'{teacher}, choose one with teacher_ckpt:{listed}')
        return None
    return next(iter(found.values()), None)
