# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
from copy import deepcopy
from typing import Dict, List, Mapping, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...structures import student_part
from ...weights import network_hash, weights_hash
from ..distillers import SDDDistiller
from ..distillers.dry_run import fill_shapes, open_shapes
from ..networks import check_clip_format, class_count, classes_key, members_of
from .channels_last import check_channels_last, lay_out
from .compiled import compile_student as compile_student_in_place
from .configs import mmpretrain, preprocessor_config, states_format
from .teacher import LiveTeacher, TeacherError, keys_of, load_teachers
from .teacher_inference import TeacherInference
from .teacher_input import build_teacher_input, teacher_view
from .unlabeled import (UnlabeledError, check_unlabeled, labeled,
                        losses_of_labeled)

ON_MISMATCH = ('error', 'convert', 'ignore')
Inputs = Union[Tensor, Mapping[str, Tensor]]


@MODELS.register_module()
class FrozenTeacherDistill(SingleTeacherDistill):
    """MMRazor's ``SingleTeacherDistill`` with a teacher that is frozen.

    - The whole teacher stays in eval mode: BatchNorm, dropout and drop path.
    - Its checkpoint is loaded strictly, in ``init_weights()``: testing a
      student needs no teacher. A teacher without weights is an error.
    - It is never saved, and copies of the model (EMA makes one) share it.
    - It runs without its own loss, and no further than the losses need.
    - Its input normalization must be stated and agree with the student's, and
      so must the number of classes.

    Args:
        distiller (dict): Config of the distiller.
        teacher (dict | BaseModel): Config of the teacher, with its
            ``data_preprocessor`` (a ``cfg_path`` has it), or a trained
            teacher, used as it is. Without ``_scope_`` a config is
            MMPretrain's.
        teacher_ckpt (str | list[str], optional): Path or URL of the teacher's
            checkpoint; a list of them for a :class:`TeacherEnsemble`.
            Defaults to None, which is an error when training starts with a
            teacher given by config.
        student_loss_weight (float): Weight of the student's own losses, such
            as its cross entropy. Defaults to 1.0.
        allow_untrained_teacher (bool): Whether a teacher without checkpoint
            may train a student, to try a set-up. Defaults to False.
        allow_unlabeled (bool): Whether training images may lack a label: the
            student's own losses are of the others, and no distillation loss
            may need the label. Defaults to False.
        teacher_inference (dict, optional): Faster ways to run the teacher,
            see :class:`TeacherInference`. Defaults to None, none of them.
        teacher_input (dict, optional): How the teacher sees the student's
            batch: ``dict(type='Resize', scale=...)`` at another size, see
            :class:`Resize`. Its own normalization acts then. Defaults to
            None: the same images.
        student_channels_last (bool): Whether the student's weights and maps
            are laid out channels last, which is faster for most convolutions.
            Results differ by rounding. Defaults to False.
        compile_student (bool | dict): Whether ``torch.compile`` compiles the
            student's backbone, or its arguments, such as
            ``dict(mode='max-autotune')``. Names in checkpoints stay the same;
            copies (EMA makes one) run uncompiled. Defaults to False.
        image_size (int | tuple[int, int], optional): Height and width of the
            training images, for losses and connectors with weights whose
            ``student_channels`` and ``teacher_channels`` (or ``_shape``) the
            config leaves open: a forward pass finds them. Defaults to None.
        on_normalization_mismatch (str): What to do with a teacher whose mean,
            std or channel order differs from the student's: 'error',
            'convert' (it gets images in its own format) or 'ignore' (it gets
            the student's images). Defaults to 'error'.
        architecture (dict | BaseModel): The student. Without ``_scope_`` it
            is an MMPretrain model.
        data_preprocessor (dict, optional): The student's. Without ``type`` it
            is an ``AsyncClsDataPreprocessor`` with the batch augmentations of
            the student's ``train_cfg``, as in MMPretrain. Defaults to None.
        **kwargs: The other arguments of ``SingleTeacherDistill``.

    Raises:
        TeacherError: If the teacher does not fit the student or the config.

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
                 teacher_ckpt: Union[str, List[str], None] = None,
                 student_loss_weight: float = 1.0,
                 allow_untrained_teacher: bool = False,
                 allow_unlabeled: bool = False,
                 teacher_inference: Optional[dict] = None,
                 teacher_input: Optional[dict] = None,
                 student_channels_last: bool = False,
                 compile_student: Union[bool, dict] = False,
                 image_size: Union[int, Tuple[int, int], None] = None,
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
        own_input = build_teacher_input(teacher_input)
        stated = states_format(teacher)
        networks = dict(
            architecture=mmpretrain(architecture), teacher=mmpretrain(teacher))
        if any(open_shapes(distiller)):
            if len(stated) > 1:
                raise TeacherError(
                    'a TeacherEnsemble is the mean of logits, and '
                    f'{next(open_shapes(distiller)).key} compares features of '
                    'one teacher: use ScaleDecoupledLoss or LogitLoss')
            distiller = deepcopy(distiller)
            networks = {
                role: MODELS.build(one) if isinstance(one, dict) else one
                for role, one in networks.items()
            }
            fill_shapes(distiller, networks['architecture'],
                        networks['teacher'], image_size, own_input
                        and own_input.size)
        super().__init__(
            distiller=distiller,
            **networks,
            data_preprocessor=preprocessor_config(data_preprocessor,
                                                  architecture),
            **kwargs)
        if not isinstance(self.distiller, SDDDistiller):
            raise TeacherError(
                f'FrozenTeacherDistill got a {type(self.distiller).__name__}: '
                "set model.distiller.type='SDDDistiller', which takes the "
                'same arguments')
        self.teacher_ckpt = teacher_ckpt
        self._teacher_is_trained = isinstance(teacher, BaseModel)
        # the check before a run sets it where it loaded the teacher
        self.teacher_is_loaded = False
        self.teacher_hash: Optional[str] = None
        self.teacher_network: Optional[str] = None
        self.teacher_metas: List[dict] = []
        self.student_loss_weight = student_loss_weight
        self.allow_untrained_teacher = allow_untrained_teacher
        self.allow_unlabeled = allow_unlabeled
        if allow_unlabeled:
            check_unlabeled(self.distiller, self.student,
                            self.data_preprocessor)
        self.student_channels_last = student_channels_last
        if student_channels_last:
            check_channels_last(self.student)
            lay_out(self.student, True)
        compile_student_in_place(self.student, compile_student)
        check_clip_format(self.student, self.data_preprocessor)
        self._check_classes()
        unused = self.student.data_preprocessor
        if getattr(unused, 'num_classes', 0) is None:  # hooks compare it
            unused.num_classes = getattr(self.data_preprocessor, 'num_classes',
                                         None)
        self.teacher_input = own_input
        self.convert = teacher_view(self, stated, on_normalization_mismatch,
                                    own_input)
        self.teacher.eval()
        self.distiller.stop_teacher_at_map()
        self.teacher_inference = TeacherInference(**(teacher_inference or {}))
        if self.teacher_inference.fold_bn and self.distiller.listens_elsewhere:
            raise TeacherError(
                'model.teacher_inference.fold_bn would change what the other '
                'recorders and deliveries of model.distiller record of the '
                'teacher: set it to False')
        if self.teacher_inference.options() and len(stated) > 1:
            raise TeacherError('model.teacher_inference is of one teacher: '
                               'remove it for a TeacherEnsemble')
        # TeacherCacheHook puts a TeacherCache in its place
        self.teacher_source = LiveTeacher(self.teacher, self.distiller,
                                          self.teacher_inference, self.convert)
        self._register_state_dict_hook(drop_teacher)
        self._register_load_state_dict_pre_hook(drop_teacher, with_module=True)
        self.register_load_state_dict_post_hook(excuse_teacher)

    def _check_classes(self) -> None:
        own = class_count(self.student)
        for teacher, key in zip(
                members_of(self.teacher), keys_of(self.teacher)):
            theirs = class_count(teacher)
            if None not in (own, theirs) and own != theirs:
                raise TeacherError(
                    f'the teacher {type(teacher).__name__} has {theirs} '
                    f'classes, the student {type(self.student).__name__} '
                    f'{own}: choose a teacher of the student\'s classes, or '
                    f'correct {key}.{classes_key(teacher)} or '
                    f'model.architecture.{classes_key(self.student)}')

    @property
    def head(self) -> nn.Module:
        """The student's: MMPretrain's hooks look for ``model.head``."""
        return self.student.head

    def teacher_images(self, inputs: Inputs) -> Union[Tensor, List[Tensor]]:
        """The teacher's images, (B, C, H, W), of ``inputs`` of a batch.

        A list of them for the teachers of a ``TeacherEnsemble``.
        """
        return inputs if self.convert is None else self.convert(inputs)

    def forward(self, inputs: Inputs, *args, **kwargs):
        """All but training is the student's, and takes its images."""
        if kwargs.get('mode',
                      args[1] if len(args) > 1 else 'tensor') != 'loss':
            inputs = student_part(inputs)
        return super().forward(inputs, *args, **kwargs)

    def init_weights(self) -> None:
        """Initialize the student and load the teacher.

        Raises:
            TeacherError: If the teacher has no checkpoint or another's.
        """
        # MMEngine would initialize the teacher, and warn of a second time
        order, teacher = list(self._modules), self._modules.pop('teacher')
        # random numbers fill weights in memory order
        if self.student_channels_last:
            lay_out(self.student, False)
        try:
            super().init_weights()
        finally:
            self.teacher = teacher
            # EMA pairs the buffers of its copy by their order
            for name in order:
                self._modules[name] = self._modules.pop(name)
        if self.student_channels_last:
            lay_out(self.student, True)
        if not self.teacher_is_loaded:
            self.load_teacher()

    def load_teacher(self) -> None:
        """Load the teacher's checkpoint strictly and take its hash."""
        if self.teacher_inference.prepared:
            return  # it no longer has the weights of its checkpoint
        if self.teacher_ckpt is not None:
            self.teacher_metas = load_teachers(self.teacher, self.teacher_ckpt)
        elif self._teacher_is_trained:
            pass
        elif self.allow_untrained_teacher:
            print_log(
                'UNTRAINED TEACHER: it has random weights. This run tests the '
                'set-up, it is not a result.',
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
        batch_inputs: Inputs,
        data_samples: Optional[List[BaseDataElement]] = None,
    ) -> Dict[str, Tensor]:
        """Losses of the student and of the distillation.

        Args:
            batch_inputs (Tensor | dict[str, Tensor]): Images, (B, C, H, W);
                or those of ``student`` and of ``teacher``, if the teacher
                sees others.
            data_samples (list[BaseDataElement], optional): Their labels.

        Returns:
            dict[str, Tensor]: ``student.*``, times ``student_loss_weight``,
            and ``distill.*``.
        """
        if self.distillation_stopped:
            return self._student_losses(batch_inputs, data_samples)
        distiller = self.distiller
        teacher = self.teacher_source.record(batch_inputs, data_samples)
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            losses = self._student_losses(batch_inputs, data_samples)
        losses.update(
            add_prefix(distiller.compute_distill_losses(teacher), 'distill'))
        return losses

    def _student_losses(self, batch_inputs: Inputs,
                        data_samples) -> Dict[str, Tensor]:
        losses = self._own_losses(student_part(batch_inputs), data_samples)
        if not self.calculate_student_loss:
            return dict()
        return {
            f'student.{name}':
            value * self.student_loss_weight if 'loss' in name else value
            for name, value in losses.items()
        }

    def _own_losses(self, batch_inputs: Tensor,
                    data_samples) -> Dict[str, Tensor]:
        places = labeled(data_samples)
        if places is None:
            return self.student(batch_inputs, data_samples, mode='loss')
        if not self.allow_unlabeled:
            raise UnlabeledError(
                f'{len(data_samples) - len(places)} of {len(data_samples)} '
                'images of a batch have no label: correct train_dataloader, '
                'or set model.allow_unlabeled=True to learn from the teacher '
                'alone there')
        return losses_of_labeled(self.student, batch_inputs, data_samples,
                                 places)

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
            tuple[int, int]: Depth and largest depth in the student; other
            parameters, such as a connector's, count as its head.
        """
        own = 'architecture.'
        if param_name.startswith(own):
            return self.student.get_layer_depth(param_name[len(own):])
        return self.student.get_layer_depth('head')

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacherDistill':
        """A copy (EMA makes one) shares the teacher, and asks it live.

        Its recorders listen to the teacher only once it distills.
        """
        shared = [*self.teacher.modules(), self.teacher_inference]
        shared += [*self.teacher.parameters(), *self.teacher.buffers()]
        memo.update((id(one), one) for one in shared)
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        state = dict(self.__dict__, teacher_source=None)
        copy.__dict__.update(deepcopy(state, memo))
        copy.teacher_source = LiveTeacher(
            copy.teacher,
            copy.distiller,
            copy.teacher_inference,
            copy.convert,
            listens=False)
        return copy


def drop_teacher(module, state_dict, prefix, *args) -> None:
    """Keep the teacher's weights out of a state dict.

    A hook, because MMEngine's checkpoint writer and loader call hooks where
    they do not call an overridden ``state_dict()``. Before loading it keeps
    the teacher of another run from replacing this one.
    """
    for name in [n for n in state_dict if n.startswith(f'{prefix}teacher.')]:
        del state_dict[name]


def excuse_teacher(module, incompatible_keys) -> None:
    """Do not report the teacher's weights as missing."""
    teacher = module.teacher
    # a ModuleClassifier has other names in its state dict
    own = {
        f'teacher.{name}'
        for names in (teacher.state_dict(), dict(teacher.named_parameters()),
                      dict(teacher.named_buffers()))
        for name in names
    }
    missing = incompatible_keys.missing_keys
    missing[:] = [
        name for name in missing
        if name[max(name.find('teacher.'), 0):] not in own
    ]
