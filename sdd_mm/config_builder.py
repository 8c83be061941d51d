# Copyright (c) sdd_mm contributors. All rights reserved.
"""Writes the config that distils into a student of any config."""
import logging
import math
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Union

import mmengine.hub
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.logging import print_log
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.utils import get_installed_path
from yapf.yapflib.yapf_api import FormatCode

from .config_file import is_new_style, load_config
from .converters import ConversionError
from .converters.timm_classifier import timm_teacher
from .engine.errors import PreflightError
from .engine.preflight import check_training
from .engine.smoke import num_classes, to_smoke
from .images import loads_files
from .version import __version__

METHODS = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
IMAGENET_CLASSES = 1000
"""From this many classes on, a method's numbers are those of ImageNet."""
TIMM = 'timm::'
STYLE = dict(
    based_on_style='pep8', split_before_expression_after_opening_paren=True)
TIMM_NOTE = ('. tools/model_converters/timm_to_mmpretrain.py converts the '
             'checkpoints of timm')
# what configs/_base_/hooks.py has
DEFAULT_HOOKS = dict(
    scalars='DeferredScalarsHook',
    labels='LabelCheckHook',
    finite_loss='FiniteLossHook',
    exact_resume='ExactResumeHook')
# config keys that an error may name, and the argument that sets them
ARGUMENTS = {
    'model.on_normalization_mismatch': 'on_normalization_mismatch',
    'model.distiller.student_recorders': 'student_recorder',
    'model.distiller.teacher_recorders': 'teacher_recorder',
    'model.teacher_ckpt': 'teacher_ckpt',
}


class ConfigBuilderError(ValueError):
    """A config that cannot be written, and why."""


class Code(str):
    """Python source, which is written as it is."""


def make_config(out: Union[str, Path],
                student: str,
                teacher: str,
                method: str = 'sd-dkd',
                teacher_ckpt: Optional[str] = None,
                scales: Optional[Sequence[int]] = None,
                criterion: Optional[Dict[str, float]] = None,
                warmup_epochs: Optional[int] = None,
                student_recorder: Optional[Dict[str, Any]] = None,
                teacher_recorder: Optional[Dict[str, Any]] = None,
                on_normalization_mismatch: str = 'error',
                overwrite: bool = False) -> Path:
    """Write a config that inherits a student's recipe and distils into it.

    Data, schedule, optimizer and runtime stay the student's. Before anything
    is written, the config is built and takes one forward on generated images
    in the student's own pipeline, with random weights and no download.

    Args:
        out (str | Path): The config to write, ``.py``.
        student (str): Config of the student alone: ``package::path`` or the
            path of a file.
        teacher (str): Config of the teacher, likewise, or ``timm::`` and the
            name of a timm model that is linear after its pooling.
        method (str): One of ``METHODS``. Its numbers are those of
            ``configs/_base_/methods/`` or, if the student tells 1000 classes
            or more apart, of ``configs/sdd/*_res50_mbv1_imagenet.py``.
            Defaults to 'sd-dkd'.
        teacher_ckpt (str, optional): Path or URL of the teacher's checkpoint.
            Defaults to None, which takes the one that the teacher's package
            has published, if there is one and no other. That of a timm model
            is converted first, by ``tools/model_converters/``.
        scales (Sequence[int], optional): The scale set M of an SD method.
            Defaults to None, which is (1, 2, 4).
        criterion (dict, optional): Numbers of the criterion to change, such
            as ``dict(beta=6.0)``. Defaults to None.
        warmup_epochs (int, optional): Epochs over which the distillation loss
            is warmed up, 0 for none. Defaults to None, the method's.
        student_recorder (dict, optional): Config of the recorder of the
            student's feature head, ``type`` 'FeatureHead' unless given.
            Defaults to None, which finds pooling and head.
        teacher_recorder (dict, optional): The teacher's, likewise.
        on_normalization_mismatch (str): As in ``FrozenTeacherDistill``.
            Defaults to 'error'.
        overwrite (bool): Whether ``out`` may exist. Defaults to False.

    Returns:
        Path: The config that was written.

    Raises:
        ConfigBuilderError: If the config would not train. Nothing is written
            then.

    Examples:
        >>> make_config(
        ...     'sd-dkd_resnet18_cifar10.py',
        ...     student='mmpretrain::resnet/resnet18_8xb16_cifar10.py',
        ...     teacher='mmpretrain::resnet/resnet50_8xb16_cifar10.py')
    """
    student, teacher = str(student), str(teacher)
    teacher_ckpt = None if teacher_ckpt is None else str(teacher_ckpt)
    out = Path(out).expanduser().absolute()
    if out.suffix != '.py':
        raise ConfigBuilderError(f'a config is a .py file, {out} is not')
    if out.exists() and not overwrite:
        raise ConfigBuilderError(f'{out} exists: name another file or pass '
                                 'overwrite (--overwrite)')
    base = _read('student', student)
    _spare(out, student, teacher)
    if 'architecture' in base.model:
        raise ConfigBuilderError(
            f'student {student} is a {base.model.type} already: give the '
            'config that trains the student alone')
    if base.get('load_from'):
        raise ConfigBuilderError(
            f'student {student} sets load_from, which no student inside '
            'FrozenTeacherDistill can load: give a config that sets '
            "model.init_cfg=dict(type='Pretrained', checkpoint="
            f'{base.load_from!r}) instead')
    try:  # decoded files are BGR, the arrays of CIFAR and its like are RGB
        classes, bgr = num_classes(base), loads_files(base.train_dataloader)
    except (PreflightError, KeyError, AttributeError) as error:
        raise ConfigBuilderError(f'student {student} is no config that trains '
                                 f'a classifier: {error}') from error
    teacher_model, teacher_imports = _teacher(teacher, classes, bgr)
    if teacher_ckpt is None:
        teacher_ckpt = _published_checkpoint(teacher)
    numbers, weight, losses, epochs = _numbers(method, classes)
    name, loss = next(iter(losses.items()))
    _change(method, loss, scales, criterion)
    epochs = _warmup(method, epochs, warmup_epochs, base)

    distiller = dict(
        type='SDDDistiller', distill_losses=Code('distill_losses'))
    for role, recorder in (('student', student_recorder), ('teacher',
                                                           teacher_recorder)):
        if recorder and not isinstance(recorder, dict):
            raise ConfigBuilderError(
                f'{role}_recorder is a dict, such as dict(type=\'RegionHead\''
                f'), got {recorder!r}')
        if recorder:
            distiller[f'{role}_recorders'] = dict(feature_head={
                'type': 'FeatureHead',
                **recorder
            })
    model = dict(
        _delete_=True,
        _scope_='mmrazor',
        type='FrozenTeacherDistill',
        architecture=Code('_base_.model'))
    if 'data_preprocessor' in base.model or not base.get('data_preprocessor'):
        model['data_preprocessor'] = Code(
            "_base_.model.pop('data_preprocessor', dict())")
    model.update(
        student_loss_weight=weight,
        teacher=teacher_model,
        teacher_ckpt=teacher_ckpt,
        distiller=distiller)
    if on_normalization_mismatch != 'error':
        model['on_normalization_mismatch'] = on_normalization_mismatch
    hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
    if epochs:
        hooks.append(dict(type='DistillWarmupHook', loss=name, epochs=epochs))
    kept = ''
    if base.get('custom_hooks'):
        kept = '_base_.custom_hooks + '
        if isinstance(base.custom_hooks, tuple):
            kept = 'list(_base_.custom_hooks) + '
    text = '\n'.join([
        f'# by make_config of sdd_mm {__version__} from {numbers}',
        f'_base_ = {[_base_path(student, out)]!r}',
        *_imports(base, teacher_imports),
        f'distill_losses = {_code(losses)}',
        f'model = {_code(model)}',
        *_runtime(base),
        f'custom_hooks = {kept}{_code(hooks)}',
        '',
    ])
    text = FormatCode(text, style_config=STYLE)[0]
    try:
        _check(text, out)
        out.write_text(text, encoding='utf-8')
    except OSError as error:
        raise ConfigBuilderError(f'{out} cannot be written: '
                                 f'{error}') from error
    if teacher_ckpt is not None and '://' not in teacher_ckpt and not (
            Path(teacher_ckpt).expanduser().is_file()):
        print_log(
            f'{teacher_ckpt} is not there yet: training will ask for it',
            level=logging.WARNING)
    if teacher_ckpt is None:
        print_log(f'{out} has no teacher checkpoint yet: set its '
                  'model.teacher_ckpt before training' +
                  (TIMM_NOTE if teacher.startswith(TIMM) else ''))
    return out


def _runtime(base: Config) -> Iterator[str]:
    """The hooks of our own configs that the base does not have."""
    hooks = {
        name: dict(type=kind)
        for name, kind in DEFAULT_HOOKS.items()
        if name not in (base.get('default_hooks') or {})
    }
    if hooks:
        yield f'default_hooks = {_code(hooks)}'
    wrapper = base.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper in ('OptimWrapper', 'AmpOptimWrapper'):
        yield f'optim_wrapper = dict(type={f"Deferred{wrapper}"!r})'


def _read(role: str, path: str) -> Config:
    """A config by ``package::path`` or path."""
    try:
        if '::' in path:
            cfg = mmengine.hub.get_config(path)
        else:
            cfg = load_config(Path(path).expanduser())
    except Exception as error:  # a config file may do anything
        raise ConfigBuilderError(f'{role} {path} cannot be read: '
                                 f'{type(error).__name__}: {error}') from error
    if not isinstance(cfg.get('model'), dict):
        raise ConfigBuilderError(f'{role} {path} has no `model`')
    if role == 'student' and '::' not in path and is_new_style(path):
        raise ConfigBuilderError(
            f'student {path} imports what it is made of, and a config cannot '
            'inherit from such a one by _base_: write its types as names')
    return cfg


def _spare(out: Path, student: str, teacher: str) -> None:
    """Refuse to write over what the config is made from."""
    sources = {
        Path(path).expanduser().resolve()
        for path in (student, teacher) if '::' not in path
    }
    todo = list(sources)
    while todo:
        path = todo.pop()
        if not path.is_file():  # reading it says so
            continue
        for name in Config._get_base_files(str(path)):
            if '::' not in name:
                inherited = (path.parent / name).resolve()
                if inherited not in sources:
                    sources.add(inherited)
                    todo.append(inherited)
    if out.resolve() in sources:
        raise ConfigBuilderError(f'{out} is what the config would be made '
                                 'from: name another file')


def _base_path(path: str, out: Path) -> str:
    """A config as another one inherits it."""
    if '::' in path:
        return path
    # `..` leaves the folder that a link leads to
    path = Path(path).expanduser().resolve()
    return Path(os.path.relpath(path, out.parent.resolve())).as_posix()


def _teacher(teacher: str, classes: int, bgr: bool) -> Tuple[dict, list]:
    """The teacher's config, and the modules to import for it."""
    if teacher.startswith(TIMM):
        try:
            return timm_teacher(teacher[len(TIMM):], classes, to_rgb=bgr), []
        except ConversionError as error:
            raise ConfigBuilderError(f'teacher {teacher}: {error}') from error
    cfg = _read('teacher', teacher)
    if '::' in teacher and 'data_preprocessor' not in cfg.model:
        return dict(cfg_path=teacher), []
    imports = cfg.get('custom_imports', dict()).get('imports', [])
    cfg = cfg.to_dict()
    # the student of an earlier distillation may teach
    model = cfg['model'].get('architecture', cfg['model'])
    model.setdefault(
        'data_preprocessor',
        cfg['model'].get('data_preprocessor',
                         cfg.get('data_preprocessor') or dict()))
    # it is neither initialised nor trained
    for key in ('init_cfg', 'train_cfg'):
        model.pop(key, None)
    (model.get('backbone') or {}).pop('init_cfg', None)
    return model, [imports] if isinstance(imports, str) else list(imports)


def _published_checkpoint(teacher: str) -> Optional[str]:
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
                  f'{teacher}, choose one by teacher_ckpt:{listed}')
        return None
    return next(iter(found.values()), None)


def _numbers(method: str, classes: int) -> Tuple[str, float, dict, int]:
    """Where a method's numbers stand, and what they are."""
    if method not in METHODS:
        near = get_close_matches(method, METHODS, n=1)
        hint = f'. Did you mean {near[0]!r}?' if near else ''
        raise ConfigBuilderError(f'there is no method {method!r}, only '
                                 f'{", ".join(METHODS)}{hint}')
    package = Path(__file__).parent
    # installed, or in a checkout
    root = next(
        path for path in (package / '.mim', package.parent)
        if (path / 'configs/_base_/methods').is_dir())
    if classes < IMAGENET_CLASSES:
        name = f'configs/_base_/methods/{method}.py'
        cfg = Config.fromfile(root / name)
        source = cfg.method
        hooks = [cfg.warmup] if 'warmup' in cfg else []
    else:
        name = f'configs/sdd/{method}_res50_mbv1_imagenet.py'
        cfg = Config.fromfile(root / name)
        source, hooks = cfg.model, cfg.custom_hooks
    epochs = next(
        (hook.epochs for hook in hooks if hook.type == 'DistillWarmupHook'), 0)
    losses = source.distiller.distill_losses.to_dict()
    return name, source.student_loss_weight, losses, epochs


def _change(method: str, loss: dict, scales: Optional[Sequence[int]],
            criterion: Optional[dict]) -> None:
    """Put the user's numbers into a loss."""
    if scales is not None:
        if 'scales' not in loss:
            raise ConfigBuilderError(
                f'{method} distils the global logits alone, it has no scales: '
                f'leave them out or take sd-{method}')
        loss['scales'] = tuple(scales)
    for key, value in (criterion or {}).items():
        if key not in loss['criterion'] or key == 'type':
            known = sorted(set(loss['criterion']) - {'type'})
            raise ConfigBuilderError(
                f'the criterion of {method} has no {key!r}, only '
                f'{", ".join(known)}')
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigBuilderError(
                f'{key} of the criterion must be a finite '
                f'number, got {value!r}')
        loss['criterion'][key] = value


def _warmup(method: str, default: int, given: Optional[int],
            base: Config) -> int:
    epochs = default if given is None else given
    if not isinstance(epochs, int) or epochs < 0:
        raise ConfigBuilderError('warmup_epochs must be a whole number, 0 or '
                                 f'more, got {epochs!r}')
    total = base.get('train_cfg', dict()).get('max_epochs')
    if epochs and not total and given is None:
        raise ConfigBuilderError(
            f'{method} warms up over {epochs} epochs, and the student\'s '
            'recipe counts iterations: set warmup_epochs to the number of '
            'passes over the data that suits it, 0 for none')
    if epochs and total and epochs >= total:
        raise ConfigBuilderError(
            f'a warm-up of {epochs} epochs{"" if given else f" ({method})"} '
            f'does not end in the {total} epochs of the student\'s recipe: '
            'set warmup_epochs (--warmup-epochs), 0 for none')
    return epochs


def _imports(base: Config, teacher: list) -> list:
    """The line that imports what the base does not, if anything."""
    own = base.get('custom_imports', dict()).get('imports') or []
    more = [name for name in ('sdd_mm', *teacher) if name not in own]
    if not more:
        return []
    if not own:
        line = _code(dict(imports=more, allow_failed_imports=False))
    elif isinstance(own, str):
        line = f'dict(imports={more!r} + [_base_.custom_imports.imports])'
    else:  # sdd_mm first: it repairs the stack
        line = f'dict(imports={more!r} + _base_.custom_imports.imports)'
    return [f'custom_imports = {line}']


def _code(value: Any) -> str:
    """A value as a config file writes it."""
    if isinstance(value, Code):
        return value
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            items = [f'{key}={_code(item)}' for key, item in value.items()]
            return f'dict({", ".join(items)})'
        items = [f'{key!r}: {_code(item)}' for key, item in value.items()]
        return f'{{{", ".join(items)}}}'
    if isinstance(value, list):
        return f'[{", ".join(map(_code, value))}]'
    if isinstance(value, tuple):
        comma = ',' if len(value) == 1 else ''
        return f'({", ".join(map(_code, value))}{comma})'
    if isinstance(value, str) and len(value) > 60 and '/' in value:
        # as long URLs stand in OpenMMLab's configs
        folder, _, name = value.rpartition('/')
        return f'{folder + "/"!r} {name!r}'
    return repr(value)


def _check(text: str, out: Path) -> None:
    """Build the config from where it will lie, and take one forward."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f'.{os.getpid()}_{out.name}')
    # that the teacher is untrained in this check is no news
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        draft.write_text(text, encoding='utf-8')
        cfg = Config.fromfile(draft)
        _forward(cfg)
    except Exception as error:  # a model may raise anything
        message = str(error)
        hints = [
            argument for key, argument in ARGUMENTS.items() if key in message
        ]
        hint = ''.join(f' (here: the argument {name}, '
                       f'--{name.replace("_", "-")})' for name in hints)
        if 'teacher_ckpt' in hints and 'TIMMBackbone' in text:
            hint += TIMM_NOTE
        raise ConfigBuilderError(
            f'the config would not train, so it is not written: {message}'
            f'{hint}') from error
    finally:
        logging.disable(disabled)
        draft.unlink(missing_ok=True)


def _forward(cfg: Config) -> None:
    """One training forward on two generated images in the own pipeline."""
    cfg.work_dir = 'work_dirs'  # nothing is written there
    cfg.train_dataloader.batch_size = 2
    _no_weights(cfg.model)
    to_smoke(cfg, 1)
    model = check_training(cfg).model
    # without what needs a GPU
    wrapper = {
        key: cfg.optim_wrapper[key]
        for key in ('optimizer', 'constructor', 'paramwise_cfg')
        if key in cfg.optim_wrapper
    }
    scope = DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))
    with scope, torch.random.fork_rng(devices=[]):
        build_optim_wrapper(model, wrapper)
        batch = next(
            iter(
                Runner.build_dataloader(
                    dict(
                        dataset=cfg.train_dataloader.dataset,
                        sampler=dict(type='DefaultSampler', shuffle=False),
                        batch_size=2,
                        num_workers=0))))
        model.train()
        model(**model.data_preprocessor(batch, True), mode='loss')


def _no_weights(value: Any) -> None:
    """A check needs none, and some constructors (timm's) fetch them."""
    if isinstance(value, dict):
        value.pop('init_cfg', None)
        if value.get('pretrained') is True:
            value['pretrained'] = False
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            _no_weights(inner)
