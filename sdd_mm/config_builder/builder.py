# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Union

from mmengine.config import Config
from mmengine.logging import print_log

from ..config_file import project_root
from ..engine.errors import PreflightError
from ..engine.smoke import num_classes
from ..images import loads_files
from ..version import __version__
from .code import Code, format_code, to_code
from .methods import (Method, change_loss, dataloader_changes, fit_losses,
                      image_size, read_method, warmup_length)
from .own_weights import own_weights, stated_images
from .sources import (TIMM, ConfigBuilderError, Teacher, published_checkpoint,
                      read_student, read_teacher)
from .trial import try_config

TIMM_NOTE = ('. tools/model_converters/timm_to_mmpretrain.py converts the '
             'checkpoints of timm')
SIZE_NOTE = (' If this is the teacher, which takes images of one size, pass '
             'this as teacher_size (--teacher-size)')
# config keys that an error may name, and the argument that sets them
ARGUMENTS = {
    'model.on_normalization_mismatch': 'on_normalization_mismatch',
    'model.distiller.student_recorders': 'student_recorder',
    'model.distiller.teacher_recorders': 'teacher_recorder',
    'model.teacher_ckpt': 'teacher_ckpt',
}


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
                teacher_head: Optional[str] = None,
                teacher_size: Optional[int] = None,
                on_normalization_mismatch: str = 'error',
                overwrite: bool = False) -> Path:
    """Write a config that inherits a student's recipe and distills into it.

    Data, schedule, optimizer and runtime stay the student's. Before anything
    is written, the config is built and runs one training forward on generated
    images in the student's own pipeline, with random weights and no download.

    Args:
        out (str | Path): The config to write, ``.py``.
        student (str): Config that trains the student alone:
            ``package::path`` or the path of a file.
        teacher (str): Config of the teacher, likewise, or ``timm::`` and the
            name of a timm model: any for kd, dkd and nkd, else one that is
            linear after its pooling. Or ``hf::`` and a folder that
            ``save_pretrained`` of transformers wrote.
        method (str): One of ``METHODS``. Its numbers are those of
            ``configs/_base_/methods/``, or of
            ``configs/sdd/*_res50_mbv1_imagenet.py`` if the student has 1000
            classes or more. ContrastiveLoss (crd) and SemanticCalibrationLoss
            (semckd) are fitted to the training set and its batches. Defaults
            to 'sd-dkd'.
        teacher_ckpt (str, optional): Path or URL of the teacher's checkpoint.
            Defaults to None, which takes the one that the teacher's package
            has published, if there is exactly one. The weights of a ``hf::``
            folder, and those of a ``timm::`` model that timm has in its
            cache, are converted to a file beside ``out``. Other checkpoints
            of timm are converted first, by ``tools/model_converters/``.
        scales (Sequence[int], optional): The scale set M of an SD method.
            Defaults to None, which is (1, 2, 4).
        criterion (dict, optional): Numbers of the criterion to change, such
            as ``dict(beta=6.0)``. Defaults to None.
        warmup_epochs (int, optional): Epochs of the distillation loss's
            warm-up, 0 for none. Defaults to None, the method's.
        student_recorder (dict, optional): Changes of the recorder of the
            student: of its feature head (``type`` 'FeatureHead' unless given),
            or of the features that another method compares, such as
            ``dict(sources=['backbone.layer1', ...])``. Defaults to None, which
            finds them.
        teacher_recorder (dict, optional): The teacher's, likewise.
        teacher_head (str, optional): Checkpoint of a ``RotationHead`` of the
            teacher, for 'sskd' and 'sd-sskd'. Defaults to None.
        teacher_size (int, optional): Height and width, in pixels, at which
            the teacher sees the student's images. Defaults to None: as they
            are.
        on_normalization_mismatch (str): As in ``FrozenTeacherDistill``.
            Defaults to 'error'.
        overwrite (bool): Whether ``out`` may exist. Defaults to False.

    Returns:
        Path: The config that was written.

    Raises:
        ConfigBuilderError: If the config would not train; then nothing is
            written.

    Examples:
        >>> make_config(
        ...     'sd-dkd_resnet18_cifar10.py',
        ...     student='mmpretrain::resnet/resnet18_8xb16_cifar10.py',
        ...     teacher='mmpretrain::resnet/resnet50_8xb16_cifar10.py')
    """
    student, teacher = str(student), str(teacher)
    out = Path(out).expanduser().absolute()
    if out.suffix != '.py':
        raise ConfigBuilderError(f'the config to write must end in .py, got '
                                 f'{out}')
    if out.exists() and not overwrite:
        raise ConfigBuilderError(f'{out} exists: choose another name or pass '
                                 'overwrite (--overwrite)')
    base = read_student(student)
    try:
        classes = num_classes(base)
        # images from files are BGR, the arrays of CIFAR and the like are RGB
        to_rgb = loads_files(base.train_dataloader)
    except (PreflightError, KeyError, AttributeError) as error:
        raise ConfigBuilderError(f'student {student} is not the config of a '
                                 f'classifier\'s training: {error}') from error
    numbers = read_method(method, classes)
    kinds = {loss['type'] for loss in numbers.losses.values()}
    teaching = read_teacher(
        teacher, classes, to_rgb, kinds == {'LogitLoss'},
        isinstance(teacher_recorder, dict)
        and teacher_recorder.get('type') == 'RegionHead', 'ScaleDecoupledLoss'
        in kinds)
    if _is_made_from(out, base, teaching.cfg):
        raise ConfigBuilderError(f'the config would be made from {out}: '
                                 'choose another name')
    own = None
    if teacher_ckpt is None:
        teacher_ckpt = published_checkpoint(teacher)
        own = own_weights(teacher, classes, out)
    if own is not None:
        teacher_ckpt = str(own.path)
    elif teacher.startswith(TIMM) and teacher_ckpt is not None:
        teaching.model['data_preprocessor'].update(
            stated_images(str(teacher_ckpt)))
    change_loss(numbers, scales, criterion)
    epochs = warmup_length(numbers, warmup_epochs, base)
    fit_losses(numbers, base, teacher_head)

    if 'teacher_recorders' not in numbers.distiller:
        teacher_recorder = {
            **(teaching.recorder or {}),
            **teacher_recorder
        } if isinstance(teacher_recorder, dict) else (teacher_recorder
                                                      or teaching.recorder)
    recorders = dict(student=student_recorder, teacher=teacher_recorder)
    model = dict(
        _delete_=True,
        _scope_='mmrazor',
        type=numbers.algorithm,
        architecture=Code('_base_.model'))
    if 'data_preprocessor' in base.model or not base.get('data_preprocessor'):
        model['data_preprocessor'] = Code(
            "_base_.model.pop('data_preprocessor', dict())")
    model.update(
        student_loss_weight=numbers.student_loss_weight,
        teacher=teaching.model,
        teacher_ckpt=None if teacher_ckpt is None else str(teacher_ckpt),
        distiller=dict(
            numbers.distiller,
            distill_losses=Code('distill_losses'),
            **_recorders(recorders, numbers)))
    size = image_size(numbers, base)
    if size is not None:
        model['image_size'] = size
    if teacher_size is not None:
        model['teacher_input'] = dict(type='Resize', scale=teacher_size)
    if on_normalization_mismatch != 'error':
        model['on_normalization_mismatch'] = on_normalization_mismatch
    hooks = [
        dict(type='FrozenTeacherHook'),
        dict(type='SDDReportHook'), *numbers.hooks
    ]
    if base.get('custom_hooks'):
        hooks.insert(0, Code('*_base_.custom_hooks'))
    if epochs:
        name, = numbers.losses
        hooks.append(dict(type='DistillWarmupHook', loss=name, epochs=epochs))
    text = format_code('\n'.join([
        f'# by make_config of sdd_mm {__version__} from {numbers.source}',
        *([own.note] if own else []),
        f'_base_ = {[_base_path(student, out)]!r}',
        *_imports(base, teaching),
        f'distill_losses = {to_code(numbers.losses)}',
        f'model = {to_code(model)}',
        *_runtime(base),
        *_dataloader(numbers, base),
        f'custom_hooks = {to_code(hooks)}',
        '',
    ]))
    _make_folder(out)
    written = own is not None and own.write()
    try:
        _try(text, out)
    except ConfigBuilderError:
        if written:
            own.path.unlink()
        raise
    try:
        out.write_text(text, encoding='utf-8')
    except OSError as error:
        raise ConfigBuilderError(f'{out} cannot be written: '
                                 f'{error}') from error
    _warn_of_checkpoint(out, teacher, teacher_ckpt)
    return out


def _is_made_from(out: Path, *configs: Config) -> bool:
    """Whether configs, or those that they inherit, are this file."""
    # the text of a config has the path of every file before its content
    return any(
        line.endswith('.py') and Path(line).resolve() == out.resolve()
        for cfg in configs for line in cfg.text.splitlines())


def _recorders(given: Dict[str, Optional[dict]],
               method: Method) -> Dict[str, dict]:
    """The recorders that the user describes, as arguments of a distiller."""
    found = {}
    for role, recorder in given.items():
        if recorder and not isinstance(recorder, dict):
            raise ConfigBuilderError(
                f"{role}_recorder must be a dict, such as "
                f"dict(type='RegionHead'), got {recorder!r}")
        if recorder:
            own = method.distiller.get(f'{role}_recorders', {})
            features = {
                name: {
                    **config,
                    **recorder
                }
                for name, config in own.items()
                if config['type'] != 'ImageIndex'
            }
            found[f'{role}_recorders'] = {
                **own,
                **features
            } if own else dict(feature_head={
                'type': 'FeatureHead',
                **recorder
            })
    return found


def _dataloader(method: Method, base: Config) -> Iterator[str]:
    """The line that changes the training dataloader, if anything."""
    changes = dataloader_changes(method, base)
    if changes:
        yield f'train_dataloader = {to_code(changes)}'


def _base_path(path: str, out: Path) -> str:
    """A config's path in the ``_base_`` of another one."""
    if '::' in path:
        return path
    # resolved, because `..` leaves the folder that a link leads to
    path = Path(path).expanduser().resolve()
    return Path(os.path.relpath(path, out.parent.resolve())).as_posix()


def _imports(base: Config, teacher: Teacher) -> Iterator[str]:
    """The line that imports what the base does not, if anything."""
    own = (base.get('custom_imports') or {}).get('imports') or []
    own = [own] if isinstance(own, str) else own
    # sdd_mm first: it repairs the stack
    names = list(dict.fromkeys(['sdd_mm', *teacher.imports, *own]))
    if set(names) != set(own):
        imports = dict(imports=names, allow_failed_imports=False)
        yield f'custom_imports = {to_code(imports)}'


def _runtime(base: Config) -> Iterator[str]:
    """The default hooks of our own configs that the base does not have."""
    ours = Config.fromfile(project_root() / 'configs/_base_/hooks.py')
    hooks = {
        name: dict(hook)
        for name, hook in ours.sdd_mm_hooks.items()
        if name not in (base.get('default_hooks') or {})
    }
    if hooks:
        yield f'default_hooks = {to_code(hooks)}'
    wrapper = base.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper in ('OptimWrapper', 'AmpOptimWrapper'):
        yield f'optim_wrapper = dict(type={f"Deferred{wrapper}"!r})'


def _make_folder(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigBuilderError(f'{out} cannot be written: '
                                 f'{error}') from error


def _try(text: str, out: Path) -> None:
    """Try a config, and say which argument to change if it fails."""
    try:
        try_config(text, out)
    except Exception as error:  # a model may raise anything
        names = [name for key, name in ARGUMENTS.items() if key in str(error)]
        hint = ''.join(f' (here: the argument {name}, '
                       f'--{name.replace("_", "-")})' for name in names)
        if 'teacher_ckpt' in names and 'TIMMBackbone' in text:
            hint += TIMM_NOTE
        if "doesn't match model" in str(error):  # of timm and transformers
            hint += SIZE_NOTE
        raise ConfigBuilderError(
            f'the config would not train, so it is not written: {error}'
            f'{hint}') from error


def _warn_of_checkpoint(out: Path, teacher: str,
                        checkpoint: Optional[str]) -> None:
    """Say which checkpoint training will still need."""
    if checkpoint is None:
        print_log(f'{out} names no teacher checkpoint: set its '
                  'model.teacher_ckpt before training' +
                  (TIMM_NOTE if teacher.startswith(TIMM) else ''))
    elif '://' not in str(checkpoint) and not (
            Path(checkpoint).expanduser().is_file()):
        print_log(
            f'the teacher checkpoint {checkpoint} does not exist yet; '
            'training needs it',
            level=logging.WARNING)
