# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a config is made from: a student's recipe, a teacher, a method."""
import math
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import mmengine.hub
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.logging import print_log
from mmengine.utils import get_installed_path

from ..config_file import is_new_style, load_config, project_root
from ..converters import ConversionError
from ..converters.timm_classifier import timm_teacher
from ..errors import SDDError

METHODS = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
IMAGENET_CLASSES = 1000
"""From this many classes on, a method has its numbers for ImageNet."""
TIMM = 'timm::'


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
    """A teacher, the modules to import for it, and the file it is from."""
    model: dict
    imports: List[str]
    cfg: Config


def read_teacher(path: str, num_classes: int, to_rgb: bool) -> Teacher:
    """The teacher of a config, or of timm.

    Args:
        path (str): ``package::path``, a file, or ``timm::MODEL``.
        num_classes (int): The classes of a timm model.
        to_rgb (bool): Whether a timm model reverses the channels it gets.
    """
    if path.startswith(TIMM):
        try:
            model = timm_teacher(path[len(TIMM):], num_classes, to_rgb)
        except ConversionError as error:
            raise ConfigBuilderError(f'teacher {path}: {error}') from error
        return Teacher(model, [], Config())
    source = _read('teacher', path)
    if '::' in path and 'data_preprocessor' not in source.model:
        return Teacher(dict(cfg_path=path), [], source)
    cfg = source.to_dict()
    # the student of an earlier distillation may teach
    model = cfg['model'].get('architecture', cfg['model'])
    model.setdefault(
        'data_preprocessor',
        cfg['model'].get('data_preprocessor',
                         cfg.get('data_preprocessor') or dict()))
    # it is neither initialized nor trained
    for key in ('init_cfg', 'train_cfg'):
        model.pop(key, None)
    (model.get('backbone') or {}).pop('init_cfg', None)
    imports = cfg.get('custom_imports', dict()).get('imports', [])
    return Teacher(model, [imports] if isinstance(imports, str) else imports,
                   source)


def published_checkpoint(teacher: str) -> Optional[str]:
    """The checkpoint of a package's config, if just one is published."""
    if '::' not in teacher or teacher.startswith(TIMM):
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


class Method(NamedTuple):
    """A method with the numbers of a config file, ``source``."""
    name: str
    source: str
    student_loss_weight: float
    losses: Dict[str, dict]  # a single one
    warmup_epochs: int  # 0: none


def read_method(name: str, num_classes: int) -> Method:
    """A method with the numbers that suit so many classes."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        hint = f'. Did you mean {near[0]!r}?' if near else ''
        raise ConfigBuilderError(f'there is no method {name!r}, only '
                                 f'{", ".join(METHODS)}{hint}')
    if num_classes < IMAGENET_CLASSES:
        source = f'configs/_base_/methods/{name}.py'
        cfg = Config.fromfile(project_root() / source)
        model, hooks = cfg.method, [cfg.warmup] if 'warmup' in cfg else []
    else:
        source = f'configs/sdd/{name}_res50_mbv1_imagenet.py'
        cfg = Config.fromfile(project_root() / source)
        model, hooks = cfg.model, cfg.custom_hooks
    epochs = next(
        (hook.epochs for hook in hooks if hook.type == 'DistillWarmupHook'), 0)
    losses = model.distiller.distill_losses.to_dict()
    return Method(name, source, model.student_loss_weight, losses, epochs)


def change_loss(method: Method, scales: Optional[Sequence[int]],
                criterion: Optional[Dict[str, Any]]) -> None:
    """Put the user's numbers into a method's loss."""
    loss, = method.losses.values()
    if scales is not None:
        if 'scales' not in loss:
            raise ConfigBuilderError(
                f'{method.name} distills the global logits alone and has no '
                f'scales: leave them out or choose sd-{method.name}')
        loss['scales'] = tuple(scales)
    for key, value in (criterion or {}).items():
        known = sorted(set(loss['criterion']) - {'type'})
        if key not in known:
            raise ConfigBuilderError(f'the criterion of {method.name} has no '
                                     f'{key!r}, only {", ".join(known)}')
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigBuilderError(f'{key} of the criterion must be a '
                                     f'finite number, got {value!r}')
        loss['criterion'][key] = value


def warmup_length(method: Method, given: Optional[int],
                  student: Config) -> int:
    """Epochs of the warm-up: those given, or else the method's."""
    epochs = method.warmup_epochs if given is None else given
    if not isinstance(epochs, int) or epochs < 0:
        raise ConfigBuilderError('warmup_epochs must be a non-negative '
                                 f'integer, got {epochs!r}')
    total = student.get('train_cfg', dict()).get('max_epochs')
    if epochs and not total and given is None:
        raise ConfigBuilderError(
            f'{method.name} warms up over {epochs} epochs, but the '
            'student\'s recipe counts iterations: set warmup_epochs '
            '(--warmup-epochs) to a number of passes over the data, 0 for '
            'none')
    if epochs and total and epochs >= total:
        raise ConfigBuilderError(
            f'a warm-up of {epochs} epochs'
            f'{f" (of {method.name})" if given is None else ""} does not end '
            f'within the {total} epochs of the student\'s recipe: set '
            'warmup_epochs (--warmup-epochs), 0 for none')
    return epochs
