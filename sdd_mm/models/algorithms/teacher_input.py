# Copyright (c) sdd_mm contributors. All rights reserved.
"""A teacher with an input of its own: a resolution, or another image."""
from typing import Mapping, Optional, Tuple, Union

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...errors import SDDError

MODES = ('bilinear', 'bicubic')


class TeacherInputError(SDDError, ValueError):
    """A ``model.teacher_input`` that cannot be."""


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
                 scale: Union[int, Tuple[int, int]],
                 mode: str = 'bilinear') -> None:
        super().__init__()
        size = (scale, scale) if isinstance(scale, int) else tuple(scale)
        if len(size) != 2 or not all(
                isinstance(side, int) and side > 0 for side in size):
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


def own_images(preprocessor: Optional[nn.Module], mixes: bool,
               other: Optional[Resize]) -> OwnImages:
    """What gives a teacher its own images.

    Args:
        preprocessor (nn.Module, optional): The teacher's data preprocessor.
        mixes (bool): Whether the student's images are mixed.
        other (Resize, optional): What ``model.teacher_input`` says.

    Raises:
        TeacherInputError: If the two views would differ, or if the teacher
            has no data preprocessor.
    """
    if preprocessor is None:
        raise TeacherInputError(
            'a PairedDataPreprocessor leaves the images of the teacher to '
            'model.teacher.data_preprocessor: set it to what the teacher was '
            'trained with (mean, std, to_rgb; dict() for none)')
    if mixes:
        raise TeacherInputError(
            "Mixup and CutMix would mix the student's images and not the "
            "teacher's: set model.architecture.train_cfg=None")
    if other is not None:
        raise TeacherInputError(
            'model.teacher_input resizes what the student sees, and with a '
            'PairedDataPreprocessor the teacher has images of its own: remove '
            'one of the two')
    return OwnImages(preprocessor)


def build_teacher_input(config: Optional[dict]) -> Optional[Resize]:
    """The module of a config.

    Raises:
        TeacherInputError: If it is of another type.
    """
    if config is None:
        return None
    kind = config.get('type')
    if kind not in ('Resize', Resize):
        raise TeacherInputError(
            "model.teacher_input must be dict(type='Resize', scale=...), got "
            f'the type {kind!r}')
    settings = {key: value for key, value in config.items() if key != 'type'}
    return Resize(**settings)


def in_turn(*modules: Optional[nn.Module]) -> Optional[nn.Module]:
    """The modules that there are, one after the other."""
    given = [module for module in modules if module is not None]
    return nn.Sequential(*given) if len(given) > 1 else (given or [None])[0]
