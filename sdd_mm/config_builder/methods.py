# Copyright (c) sdd_mm contributors. All rights reserved.
"""Methods: their losses and numbers, fitted to a student's recipe."""
import copy
import math
from difflib import get_close_matches
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS, DefaultScope

from ..config_file import project_root
from ..engine.smoke import to_smoke
from ..images import innermost
from ..loaded_image import without_download
from ..models.distillers.dry_run import open_shapes
from ..structures import student_part
from .sources import ConfigBuilderError

LOGIT_METHODS = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
BASELINES = ('fitnet', 'rkd', 'sp', 'pkt', 'crd', 'semckd', 'reviewkd', 'mgd',
             'sskd', 'sd-sskd')
METHODS = (*LOGIT_METHODS, *BASELINES)
IMAGENET_CLASSES = 1000
"""From this many classes on, a method has its numbers for ImageNet."""
# weights of single losses: SemCKD's on ImageNet, and ReviewKD's, which are
# those of ResNet32x4 -> ResNet8x4 and of ResNet34 -> ResNet18
WEIGHTS = dict(semckd=(400.0, 50.0), reviewkd=(5.0, 1.0))


class Method(NamedTuple):
    """A method with the numbers of a config file, ``source``."""
    name: str
    source: str
    algorithm: str
    student_loss_weight: float
    losses: Dict[str, dict]
    distiller: dict  # without its losses
    warmup: Optional[dict]  # the hook
    hooks: List[dict]  # other ones


def read_method(name: str, num_classes: int) -> Method:
    """A method with the numbers that suit so many classes."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        hint = f'. Did you mean {near[0]!r}?' if near else ''
        raise ConfigBuilderError(f'there is no method {name!r}, only '
                                 f'{", ".join(METHODS)}{hint}')
    imagenet = num_classes >= IMAGENET_CLASSES
    if imagenet and name in LOGIT_METHODS:
        source = f'configs/sdd/{name}_res50_mbv1_imagenet.py'
        cfg = Config.fromfile(project_root() / source)
        model, hooks = cfg.model, cfg.custom_hooks
    else:
        source = f'configs/_base_/methods/{name}.py'
        cfg = Config.fromfile(project_root() / source)
        model = cfg.method
        hooks = [cfg[key] for key in ('warmup', 'labels') if key in cfg]
    distiller = model.distiller.to_dict()
    losses = distiller.pop('distill_losses')
    if name in WEIGHTS:
        losses[list(losses)[-1]]['loss_weight'] = WEIGHTS[name][imagenet]
    hooks = {hook.type: hook.to_dict() for hook in hooks}
    return Method(name, source, model.get('type', 'FrozenTeacherDistill'),
                  model.student_loss_weight, losses, distiller,
                  hooks.pop('DistillWarmupHook', None),
                  [hook for hook in hooks.values() if name in BASELINES])


def change_loss(method: Method, scales: Optional[Sequence[int]],
                criterion: Optional[Dict[str, Any]]) -> None:
    """Put the user's numbers into a method's loss."""
    if method.name in BASELINES:
        if scales is not None or criterion:
            raise ConfigBuilderError(
                f'scales and numbers of a criterion are for '
                f'{", ".join(LOGIT_METHODS)}: leave them out, and change the '
                f'distill_losses of {method.name} in the config')
        return
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
    own = method.warmup['epochs'] if method.warmup else 0
    epochs = own if given is None else given
    if not isinstance(epochs, int) or epochs < 0:
        raise ConfigBuilderError('warmup_epochs must be a non-negative '
                                 f'integer, got {epochs!r}')
    if epochs and len(method.losses) > 1:
        raise ConfigBuilderError(
            f'{method.name} has several losses: leave warmup_epochs out, and '
            'add a DistillWarmupHook for the one to warm up to the config')
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


def fit_losses(method: Method, student: Config,
               teacher_head: Optional[str]) -> None:
    """Put what the student's recipe says into the losses of a method."""
    loader = student.train_dataloader
    for loss in method.losses.values():
        kind = loss['type']
        if kind == 'SemanticCalibrationLoss':
            loss['batch_size'] = loader['batch_size']
        elif kind == 'ContrastiveLoss':
            _fit_memory(method.name, loss, student)
        elif kind == 'RotationRelationLoss':
            if teacher_head is None:
                raise ConfigBuilderError(
                    f'{method.name} needs a head that was trained for the '
                    'teacher by a model of type RotationHead, as '
                    'configs/baselines/sskd-head_*.py do: pass its checkpoint '
                    'as teacher_head (--teacher-head)')
            loss['teacher_head'] = str(teacher_head)
    if teacher_head is not None and 'sskd' not in method.name:
        raise ConfigBuilderError('teacher_head (--teacher-head) is for sskd '
                                 f'and sd-sskd, {method.name} has none')


def _fit_memory(name: str, loss: dict, student: Config) -> None:
    """A memory for every training image."""
    labels = _labels(student)
    if labels is None:
        print_log(
            f'{name}: the training set is not there, so the number of its '
            f'images is a guess ({loss["num_data"]}): set num_data of '
            f'ContrastiveLoss to it, and num_negatives to no more than the '
            'images outside the largest class')
        return
    others = len(labels) - int(np.bincount(labels).max())
    if others < 1:
        raise ConfigBuilderError(f'{name} contrasts images of different '
                                 'classes, but all training images have one')
    loss['num_data'] = len(labels)
    loss['num_negatives'] = min(loss['num_negatives'],
                                2**(others.bit_length() - 1))


def _labels(student: Config) -> Optional[np.ndarray]:
    """The labels of the training set, if it is there."""
    try:
        with DefaultScope.overwrite_default_scope(
                student.get('default_scope', 'mmpretrain')):
            return without_download(
                student.train_dataloader.dataset).get_gt_labels()
    except Exception:  # the data may be absent, or be of any kind
        return None


def image_size(method: Method, student: Config) -> Optional[Tuple[int, int]]:
    """Height and width of the training images, if a loss needs to know."""
    distiller = dict(method.distiller, distill_losses=method.losses)
    if not any(open_shapes(distiller)):
        return None
    cfg = copy.deepcopy(student)
    cfg.work_dir = 'work_dirs'  # nothing is written there
    to_smoke(cfg, 1)
    dataset = innermost(cfg.train_dataloader.dataset)
    with DefaultScope.overwrite_default_scope(
            cfg.get('default_scope', 'mmpretrain')):
        inputs = DATASETS.build(dataset)[0]['inputs']
        return tuple(student_part(inputs).shape[-2:])


def dataloader_changes(method: Method, student: Config) -> dict:
    """What else the training dataloader needs."""
    changes: dict = {}
    kinds = {loss['type'] for loss in method.losses.values()}
    if 'SemanticCalibrationLoss' in kinds:
        changes['drop_last'] = True
    dataset = student.train_dataloader.dataset
    if method.algorithm == 'RotationDistill' and 'pipeline' in dataset:
        # the algorithm pads and crops every view by itself
        kept = [
            dict(step) for step in dataset.pipeline
            if not (step['type'] == 'RandomCrop' and step.get('padding'))
        ]
        if len(kept) < len(dataset.pipeline):
            changes['dataset'] = dict(pipeline=kept)
    return changes
