# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
from contextlib import suppress
from copy import deepcopy
from typing import Dict, List, Optional, Tuple, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..distillers import SDDDistiller
from ..recorders.map_recorder import MapReached
from .channels_last import check_channels_last, lay_out
from .compiled import check_compiles, compile_backbone
from .teacher import (TeacherError, load_teacher, network_hash, normalization,
                      weights_hash)
from .teacher_inference import TeacherInference

ON_MISMATCH = ('error', 'convert', 'ignore')


@MODELS.register_module()
class FrozenTeacherDistill(SingleTeacherDistill):
    """MMRazor's ``SingleTeacherDistill`` with a teacher that is truly frozen.

    - The whole teacher stays in eval mode: BatchNorm, dropout and drop path.
    - Its checkpoint is loaded strictly, in ``init_weights()``: testing a
      student needs no teacher. A teacher without weights is an error.
    - It is never saved, and copies of the model (EMA makes one) share it.
    - It runs without computing its own loss, and no further than the map
      that is distilled.
    - Its input normalisation must be stated and agree with the student's, and
      so must the number of classes.

    Args:
        distiller (dict): Config of the distiller.
        teacher (dict | BaseModel): Config of the teacher, with its
            ``data_preprocessor`` (``cfg_path`` brings it), or a trained
            teacher, which is taken as it is. Without ``_scope_`` a config is
            MMPretrain's.
        teacher_ckpt (str, optional): Path or URL of the teacher's checkpoint.
            Defaults to None, which is an error when training starts with a
            teacher given by config.
        student_loss_weight (float): Weight of the student's own losses, such
            as its cross entropy. Defaults to 1.0.
        allow_untrained_teacher (bool): Whether a teacher without checkpoint
            may train a student, to try a set-up. Defaults to False.
        teacher_inference (dict, optional): Faster ways to run the teacher,
            see :class:`TeacherInference`. Defaults to None, none of them.
        student_channels_last (bool): Whether the student's weights, and with
            them its maps, lie channels last, which most convolutions are
            faster with. Its results differ by rounding. Defaults to False.
        compile_student (bool | dict): Whether ``torch.compile`` compiles the
            student's backbone, or its arguments, such as
            ``dict(mode='max-autotune')``. Names in checkpoints stay, copies
            (EMA makes one) run uncompiled. Defaults to False.
        on_normalization_mismatch (str): What to do with a teacher whose mean,
            std or channel order differs from the student's: 'error',
            'convert' (its images are normalised anew) or 'ignore' (it gets
            the student's images). Defaults to 'error'.
        architecture (dict | BaseModel): The student. Without ``_scope_`` it
            is built as an MMPretrain model.
        data_preprocessor (dict, optional): The student's. Without ``type`` it
            is an ``AsyncClsDataPreprocessor`` with the batch augmentations of
            the student's ``train_cfg``, as in MMPretrain. Defaults to None.
        **kwargs: The other arguments of ``SingleTeacherDistill``.

    Raises:
        TeacherError: If the teacher cannot be the one that was meant.

    Examples:
        >>> # in a config
        >>> model = dict(
        ...     _scope_='mmrazor',
        ...     type='FrozenTeacherDistill',
        ...     architecture=dict(_scope_='mmpretrain', ...),
        ...     teacher=dict(
        ...         cfg_path='mmpretrain::resnet/resnet50_8xb32_in1k.py',
        ...         pretrained=False),
        ...     teacher_ckpt='resnet50.pth',
        ...     distiller=dict(type='SDDDistiller', ...))
    """

    def __init__(self,
                 distiller: dict,
                 teacher: Union[BaseModel, Dict],
                 teacher_ckpt: Optional[str] = None,
                 student_loss_weight: float = 1.0,
                 allow_untrained_teacher: bool = False,
                 teacher_inference: Optional[dict] = None,
                 student_channels_last: bool = False,
                 compile_student: Union[bool, dict] = False,
                 on_normalization_mismatch: str = 'error',
                 architecture: Union[BaseModel, Dict, None] = None,
                 data_preprocessor: Union[dict, nn.Module, None] = None,
                 **kwargs) -> None:
        for name, only in (('teacher_trainable', False), ('student_trainable',
                                                          True)):
            if kwargs.pop(name, only) is not only:
                raise TeacherError(
                    f'FrozenTeacherDistill has a frozen teacher and a student '
                    f'that learns: model.{name} can only be {only}')
        if on_normalization_mismatch not in ON_MISMATCH:
            raise ValueError('on_normalization_mismatch must be one of '
                             f'{ON_MISMATCH}, got '
                             f'{on_normalization_mismatch!r}')
        stated = isinstance(
            teacher, dict) and ('cfg_path' in teacher or
                                teacher.get('data_preprocessor') is not None)
        super().__init__(
            distiller=distiller,
            teacher=_mmpretrain(teacher),
            architecture=_mmpretrain(architecture),
            data_preprocessor=_as_mmpretrain_does(data_preprocessor,
                                                  architecture),
            **kwargs)
        self.teacher_ckpt = teacher_ckpt
        self._teacher_is_trained = isinstance(teacher, BaseModel)
        self.teacher_hash: Optional[str] = None
        self.teacher_network: Optional[str] = None
        self.teacher_meta: dict = {}
        self.student_loss_weight = student_loss_weight
        self.allow_untrained_teacher = allow_untrained_teacher
        self.teacher_inference = TeacherInference(**(teacher_inference or {}))
        # what TeacherCacheHook sets
        self.teacher_cache = None
        self.student_channels_last = student_channels_last
        if student_channels_last:
            check_channels_last(self.student)
            lay_out(self.student, True)
        self._compile_student(compile_student)
        self._check_classes()
        self._set_conversion(stated, on_normalization_mismatch)
        self.teacher.eval()
        if isinstance(self.distiller, SDDDistiller):
            self.distiller.stop_teacher_at_map()
        self._register_state_dict_hook(_drop_teacher)
        self._register_load_state_dict_pre_hook(
            _drop_teacher, with_module=True)
        self.register_load_state_dict_post_hook(_excuse_teacher)

    def _check_classes(self) -> None:
        counts = {
            role: getattr(getattr(model, 'head', None), 'num_classes', None)
            for role, model in (('teacher', self.teacher), ('student',
                                                            self.student))
        }
        if None not in counts.values() and len(set(counts.values())) > 1:
            raise TeacherError(
                f'the teacher {type(self.teacher).__name__} has '
                f'{counts["teacher"]} classes, the student '
                f'{type(self.student).__name__} {counts["student"]}: choose a '
                'teacher of the student\'s classes, or correct '
                'model.teacher.head.num_classes or '
                'model.architecture.head.num_classes')

    def _compile_student(self, options: Union[bool, dict]) -> None:
        """Compile the backbone in place, once its recorders listen."""
        if options is False:
            return
        key = 'model.compile_student'
        if options is not True and not isinstance(options, dict):
            raise ValueError(f'{key} must be True, False or a dict of '
                             f'torch.compile\'s arguments, got {options!r}')
        check_compiles(key)
        if not isinstance(getattr(self.student, 'backbone', None), nn.Module):
            raise ValueError(f'{key}: {type(self.student).__name__} has no '
                             '`backbone` to compile: leave it out')
        compile_backbone(self.student, **({} if options is True else options))

    def _set_conversion(self, stated: bool, on_mismatch: str) -> None:
        """Compare the normalisations, and keep how to get to the teacher's."""
        title = f'the teacher {type(self.teacher).__name__}'
        self.converts_images = False
        if on_mismatch == 'ignore':
            return
        teacher, student = normalization(self.teacher), normalization(self)
        if not stated and (teacher is None or teacher[:2] == ((0., ), (1., ))):
            raise TeacherError(
                f'{title} does not say how its images are normalised: set '
                'model.teacher.data_preprocessor to what it was trained with '
                '(mean, std, to_rgb; dict() for none)')
        if teacher == student:
            return
        if on_mismatch == 'error':
            raise TeacherError(
                f'{title} was trained on images normalised by (mean, std, '
                f'to_rgb) {_rounded(teacher)}, the student sees '
                f'{_rounded(student)}. If both are right, set '
                'model.on_normalization_mismatch=\'convert\', which gives '
                'the teacher its own')
        mean, std, to_rgb = teacher
        own_mean, own_std, own_to_rgb = student
        self.converts_images = True
        self._flip = to_rgb != own_to_rgb
        for name, values in (('_mean', mean), ('_std', std),
                             ('_own_mean', own_mean), ('_own_std', own_std)):
            self.register_buffer(
                name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def teacher_images(self, inputs: Tensor) -> Tensor:
        """The student's images as the teacher knows them."""
        if not self.converts_images:
            return inputs
        images = inputs * self._own_std + self._own_mean
        if self._flip:
            images = images.flip(1)
        return (images - self._mean) / self._std

    def init_weights(self) -> None:
        """Initialise the student and load the teacher.

        Raises:
            TeacherError: If the teacher has no checkpoint, or one that is not
                its own.
        """
        # MMEngine would initialise the teacher, and warn that it did so twice
        teacher = self._modules.pop('teacher')
        # random numbers fill weights in the order in which they lie
        if self.student_channels_last:
            lay_out(self.student, False)
        try:
            super().init_weights()
        finally:
            self.teacher = teacher
        if self.student_channels_last:
            lay_out(self.student, True)
        self.load_teacher()

    def load_teacher(self) -> None:
        """Load the teacher's checkpoint strictly and take its hash."""
        if self.teacher_inference.prepared:
            return  # it is frozen, and no longer as its checkpoint has it
        if self.teacher_ckpt is not None:
            self.teacher_meta = load_teacher(self.teacher, self.teacher_ckpt)
        elif self._teacher_is_trained:
            pass
        elif self.allow_untrained_teacher:
            print_log(
                'UNTRAINED TEACHER: it has random weights. This run shows '
                'that the set-up works, it is not a result.',
                logger='current',
                level=logging.WARNING)
        else:
            raise TeacherError(
                f'the teacher {type(self.teacher).__name__} has no weights: '
                'set model.teacher_ckpt to the path or URL of its checkpoint')
        self.teacher_hash = weights_hash(self.teacher)
        self.teacher_network = network_hash(self.teacher)

    def loss(
        self,
        batch_inputs: Tensor,
        data_samples: Optional[List[BaseDataElement]] = None,
    ) -> Dict[str, Tensor]:
        """Losses of the student and of the distillation.

        Args:
            batch_inputs (Tensor): Images, (B, 3, H, W).
            data_samples (list[BaseDataElement], optional): Their labels.

        Returns:
            dict[str, Tensor]: ``student.*``, times ``student_loss_weight``,
            and ``distill.*``.
        """
        if self.distillation_stopped:
            return self._student_losses(batch_inputs, data_samples)
        distiller = self.distiller
        if self.teacher_cache is not None:
            distiller.set_teacher_record(
                self.teacher_cache.record(batch_inputs, data_samples))
        else:
            self._record_teacher(batch_inputs, data_samples)
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            losses = self._student_losses(batch_inputs, data_samples)
        losses.update(
            add_prefix(distiller.compute_distill_losses(), 'distill'))
        return losses

    @torch.no_grad()
    def _record_teacher(self, batch_inputs: Tensor, data_samples=None) -> None:
        """Run the teacher, so that its recorders have records."""
        inputs = self.teacher_images(batch_inputs)
        self.teacher_inference.prepare(self.teacher, inputs)
        distiller = self.distiller
        distiller.set_deliveries_override(False)
        with distiller.teacher_recorders, distiller.deliveries:
            with suppress(MapReached):
                self.teacher_inference.run(self.teacher, inputs, data_samples)

    def teacher_record(self, batch_inputs: Tensor):
        """The teacher's feature head, as its losses get it.

        Args:
            batch_inputs (Tensor): Images as the student gets them,
                (B, 3, H, W).

        Returns:
            FeatureHead | RegionHead: The record.
        """
        self._record_teacher(batch_inputs)
        return self.distiller.take_teacher_record()

    def _student_losses(self, batch_inputs: Tensor,
                        data_samples) -> Dict[str, Tensor]:
        losses = self.student(batch_inputs, data_samples, mode='loss')
        if not self.calculate_student_loss:
            return dict()
        return {
            f'student.{name}':
            value * self.student_loss_weight if 'loss' in name else value
            for name, value in losses.items()
        }

    def train(self, mode: bool = True) -> 'FrozenTeacherDistill':
        """Set the student's mode; the teacher stays in eval."""
        super().train(mode)
        self.teacher.eval()
        return self

    def get_layer_depth(self, param_name: str) -> Tuple[int, int]:
        """Depth of a parameter, for MMPretrain's layer-wise decay.

        Args:
            param_name (str): The name of a parameter.

        Returns:
            tuple[int, int]: Depth and largest depth in the student; what is
            not the student's, such as a connector, counts as its head.
        """
        own = 'architecture.'
        if param_name.startswith(own):
            return self.student.get_layer_depth(param_name[len(own):])
        return self.student.get_layer_depth('head')

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacherDistill':
        """A copy (EMA makes one) shares the teacher."""
        for module in self.teacher.modules():
            memo[id(module)] = module
        for tensor in (*self.teacher.parameters(), *self.teacher.buffers()):
            memo[id(tensor)] = tensor
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        # the copy's recorders listen to the shared teacher, too
        copy.distiller.prepare_from_teacher(copy.teacher)
        return copy


def _drop_teacher(module, state_dict, prefix, *args) -> None:
    """Keep the teacher's weights out of a state dict.

    A hook, because MMEngine's checkpoint writer and loader call hooks where
    they do not call an overridden ``state_dict()``. Before loading it keeps
    the teacher of another run from replacing this one.
    """
    for name in [n for n in state_dict if n.startswith(f'{prefix}teacher.')]:
        del state_dict[name]


def _excuse_teacher(module, incompatible_keys) -> None:
    """The teacher's weights are in no checkpoint: do not miss them."""
    own = {f'teacher.{name}' for name in module.teacher.state_dict()}
    missing = incompatible_keys.missing_keys
    missing[:] = [
        name for name in missing
        if name[max(name.find('teacher.'), 0):] not in own
    ]


def _rounded(found: tuple) -> tuple:
    """A normalisation as one would write it."""
    mean, std, to_rgb = found
    return (*(tuple(float(f'{value:.6g}') for value in values)
              for values in (mean, std)), to_rgb)


def _mmpretrain(model: Union[BaseModel, Dict, None]):
    """A model config that names no scope is MMPretrain's."""
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


def _as_mmpretrain_does(preprocessor, architecture):
    """What ``ImageClassifier`` fills into a data preprocessor's config."""
    if isinstance(preprocessor, dict):
        preprocessor = deepcopy(preprocessor)
        preprocessor.setdefault('_scope_', 'mmpretrain')
        preprocessor.setdefault('type', 'AsyncClsDataPreprocessor')
        if isinstance(architecture, dict):
            preprocessor.setdefault('batch_augments',
                                    architecture.get('train_cfg'))
    return preprocessor
