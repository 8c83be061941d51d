# Copyright (c) sdd_mm contributors. All rights reserved.
"""A teacher with an input of its own: a resolution, or another image."""
from typing import List, Mapping, Optional, Sequence, Tuple, Union

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...errors import SDDError
from ...input_format import InputFormat
from ...structures import student_part
from ..data_preprocessor import PairedDataPreprocessor
from ..networks import members_of
from .teacher import input_conversion, keys_of

MODES = ('bilinear', 'bicubic')


class TeacherInputError(SDDError, ValueError):
    """A ``model.teacher_input`` that cannot be."""
    names_keys = True


class Resize(nn.Module):
    """Images at another size, for ``FrozenTeacherDistill.teacher_input``.

    Interpolated on the device with antialiasing, as Pillow does. Cells
    correspond by the grid: the cells of both networks cover the same parts of
    the image, whatever the sizes of their maps.

    Args:
        scale (int | tuple[int, int]): Height and width in pixels; a single
            number stands for both.
        mode (str): 'bilinear' or 'bicubic'. Defaults to 'bilinear'.

    Raises:
        TeacherInputError: If ``scale`` is not positive, or there is no such
            mode.

    Examples:
        >>> # in a config: the student sees 112 x 112, the teacher 224 x 224
        >>> model = dict(
        ...     type='FrozenTeacherDistill',
        ...     teacher_input=dict(type='Resize', scale=224))
    """

    def __init__(self,
                 scale: Union[int, Tuple[int, int], None] = None,
                 mode: str = 'bilinear') -> None:
        super().__init__()
        size = tuple(scale) if isinstance(scale,
                                          (list, tuple)) else (scale, scale)
        if len(size) != 2 or not all(
                type(side) is int and side > 0 for side in size):
            raise TeacherInputError(
                'model.teacher_input.scale must be a positive number of '
                f'pixels, or a height and a width, got {scale!r}')
        if mode not in MODES:
            raise TeacherInputError(
                f'model.teacher_input.mode must be one of {MODES}, got '
                f'{mode!r}')
        self.size, self.mode = size, mode

    def extra_repr(self) -> str:
        return f'{self.size[0]} x {self.size[1]}, {self.mode}'

    def forward(self, images: Tensor) -> Tensor:
        """Resize images, (B, C, H, W), or clips, (B, clips, C, T, H, W)."""
        # no half precision: the CPU has no such kernel
        found = interpolate(
            images.flatten(0, -4).float(),
            self.size,
            mode=self.mode,
            antialias=True)
        return found.to(images.dtype).reshape(*images.shape[:-2], *self.size)


class OwnImages(nn.Module):
    """The teacher's images of ``inputs=dict(student=..., teacher=...)``.

    Args:
        preprocessor (nn.Module): The teacher's data preprocessor.
    """

    def __init__(self, preprocessor: nn.Module) -> None:
        super().__init__()
        self.preprocessor = preprocessor

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalize them as the teacher's, (B, C, H, W).

        Raises:
            TeacherInputError: If a batch has a single input.
        """
        if not isinstance(inputs, Mapping):
            raise TeacherInputError(
                'the teacher has images of its own, and a batch has none for '
                "it: end the pipeline of its data set with dict(type="
                "'PackPairedInputs'), or set data_preprocessor.type to "
                "'AsyncClsDataPreprocessor'")
        return self.preprocessor(dict(inputs=inputs['teacher']))['inputs']


class StudentImages(nn.Module):
    """The student's images, as a teacher sees them.

    Args:
        convert (nn.Module, optional): What changes them. Defaults to None.
    """

    def __init__(self, convert: Optional[nn.Module]) -> None:
        super().__init__()
        self.convert = convert

    def forward(self, inputs) -> Tensor:
        """The student's part, (B, C, H, W), in the teacher's format."""
        images = student_part(inputs)
        return images if self.convert is None else self.convert(images)


class EachView(nn.ModuleList):
    """The images of each teacher of an ensemble."""

    def forward(self, inputs) -> List[Tensor]:
        """One batch of images for each, (B, C, H, W)."""
        return [view(inputs) for view in self]


def teacher_view(model: nn.Module, stated: Sequence[bool], on_mismatch: str,
                 other: Optional[Resize]) -> Optional[nn.Module]:
    """What makes the teacher's images of the ``inputs`` of a batch.

    Args:
        model (nn.Module): The algorithm, with its data preprocessor, its
            student and its teacher.
        stated (Sequence[bool]): For each teacher, whether its config has a
            data preprocessor.
        on_mismatch (str): What to do if the formats of student and teacher
            differ: 'error', 'convert' or 'ignore'.
        other (Resize, optional): What ``model.teacher_input`` says.

    Returns:
        nn.Module | None: None if they are the student's.

    Raises:
        TeacherInputError: If the teacher's images would be none of the
            student's scene.
        TeacherError: See :func:`input_conversion`.
    """
    own, teacher = model.data_preprocessor, model.teacher
    paired = isinstance(own, PairedDataPreprocessor)
    views = getattr(teacher, 'views', ['teacher' if paired else 'student'])
    if paired and 'teacher' not in views:
        raise TeacherInputError(
            'a PairedDataPreprocessor has images for a teacher, and none of '
            "the TeacherEnsemble sees them: set model.teacher.views to "
            "'student' or 'teacher' for each")
    if paired and own.batch_augments is not None:
        raise TeacherInputError(
            "Mixup and CutMix would mix the student's images and not the "
            "teacher's: set model.architecture.train_cfg=None, and remove "
            'batch_augments from data_preprocessor if it is there')
    if paired and other is not None and 'student' not in views:
        raise TeacherInputError(
            'model.teacher_input resizes what the student sees, and with a '
            'PairedDataPreprocessor the teacher has images of its own: remove '
            'one of the two')
    if other is not None and on_mismatch == 'error':
        on_mismatch = 'convert'
    # what normalizes the teacher's images is in the teacher, for all who ask
    part = own.teacher if paired else None
    if paired:
        own.teacher = None
    found = []
    for network, states, view, key in zip(
            members_of(teacher), stated, views, keys_of(teacher)):
        if view == 'student':
            found.append(
                in_turn(
                    input_conversion(network, model, states, on_mismatch, key),
                    other))
            continue
        if not paired:
            raise TeacherInputError(
                "model.teacher.views: a teacher with the view 'teacher' has "
                'images of its own: set data_preprocessor.type='
                "'PairedDataPreprocessor', and end the pipeline of "
                "train_dataloader with dict(type='PackPairedInputs')")
        theirs = InputFormat.of_model(network)
        unknown = not states and (theirs is None or theirs.is_plain)
        if part is not None:
            if not unknown and theirs != InputFormat.of_preprocessor(part):
                raise TeacherInputError(
                    'data_preprocessor.teacher says '
                    f'{InputFormat.of_preprocessor(part)}, and '
                    f'{key}.data_preprocessor says {theirs}: remove the one '
                    'that the teacher was not trained with')
            network.data_preprocessor = part
        elif unknown:
            raise TeacherInputError(
                'a PairedDataPreprocessor leaves the images of the teacher '
                f'to {key}.data_preprocessor: set it, or '
                'data_preprocessor.teacher, to what the teacher was trained '
                'with (mean, std, to_rgb; dict() for none)')
        found.append(OwnImages(network.data_preprocessor))
    if len(found) == 1 and not paired:
        return found[0]
    found = [
        one if isinstance(one, OwnImages) else StudentImages(one)
        for one in found
    ]
    return EachView(found) if len(found) > 1 else found[0]


def build_teacher_input(config: Optional[dict]) -> Optional[Resize]:
    """The module of a config.

    Raises:
        TeacherInputError: If it is of another type.
    """
    if config is None:
        return None
    kind = config.get('type') if isinstance(config, dict) else config
    if kind not in ('Resize', Resize):
        raise TeacherInputError(
            "model.teacher_input must be dict(type='Resize', scale=...), got "
            f'{kind!r}')
    settings = {key: value for key, value in config.items() if key != 'type'}
    unknown = set(settings) - {'scale', 'mode'}
    if unknown:
        raise TeacherInputError('model.teacher_input takes scale and mode, '
                                f'not {", ".join(sorted(unknown))}')
    return Resize(**settings)


def in_turn(*modules: Optional[nn.Module]) -> Optional[nn.Module]:
    """The modules that there are, one after the other."""
    given = [module for module in modules if module is not None]
    return nn.Sequential(*given) if len(given) > 1 else (given or [None])[0]
