# Copyright (c) sdd_mm contributors. All rights reserved.
"""A frozen teacher: its weights, and its record of a batch."""
from contextlib import suppress
from typing import List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ...input_format import InputConversion, InputFormat, stated_mismatch
from ...weights import (CONVERTERS, WeightsError, misfits, network_weights,
                        read_checkpoint)
from ..distillers import SDDDistiller
from ..networks import members_of
from ..recorders.feature_head_recorder import MapReached
from .teacher_inference import TeacherError, TeacherInference

TEACHER_META = 'teacher_sha256'
"""The hash of a run's teacher, in the meta of its checkpoints."""


class LiveTeacher:
    """The teacher source that runs the teacher.

    Args:
        teacher (nn.Module): The teacher, in eval mode.
        distiller (SDDDistiller): The distiller with the teacher's recorders.
        inference (TeacherInference): How the teacher is run.
        convert (nn.Module, optional): Makes the teacher's images of the
            student's. Defaults to None: they are the same.
        listens (bool): Whether the recorders listen to the teacher already.
            Defaults to True.
    """

    def __init__(self,
                 teacher: nn.Module,
                 distiller: SDDDistiller,
                 inference: TeacherInference,
                 convert: Optional[nn.Module] = None,
                 listens: bool = True) -> None:
        self.teacher = teacher
        self.distiller = distiller
        self.inference = inference
        self.convert = convert
        self._listens = listens

    @torch.no_grad()
    def record(self, inputs: Tensor, data_samples=None):
        """Run the teacher, no further than its losses need.

        Args:
            inputs (Tensor): Images as the student gets them, (B, 3, H, W).
            data_samples (list, optional): Their data samples.

        Returns:
            FeatureHead | RegionHead | None: What the distiller's losses take
            as the teacher's record, None if no loss asks for it. Records of
            other recorders stay in these.
        """
        distiller = self.distiller
        if not self._listens:
            distiller.prepare_from_teacher(self.teacher)
            self._listens = True
        if self.convert is not None:
            inputs = self.convert(inputs)
        self.inference.prepare(self.teacher, inputs)
        distiller.set_deliveries_override(False)
        with distiller.teacher_recorders, distiller.deliveries:
            with suppress(MapReached):
                self.inference.run(self.teacher, inputs, data_samples)
        return distiller.teacher_record()


def load_teacher(teacher: nn.Module,
                 checkpoint: str,
                 key: str = 'model.teacher') -> dict:
    """Load a checkpoint into a teacher, every weight of it and no other.

    Args:
        teacher (nn.Module): The teacher.
        checkpoint (str): Path or URL of an MMPretrain checkpoint. One that
            this package saved holds its student under ``architecture.``, and
            that student is loaded.
        key (str): Where its config stands, for messages. Defaults to
            'model.teacher'.

    Returns:
        dict: The checkpoint's meta.

    Raises:
        TeacherError: If the file does not exist or cannot be read, if weights
            are missing, left over, of another shape or not finite, or if the
            checkpoint states another input normalization than the teacher's
            data preprocessor.
    """
    title = f'teacher checkpoint {checkpoint}'
    try:
        content = read_checkpoint(checkpoint)
    except WeightsError as error:
        raise TeacherError(
            f'teacher checkpoint {error}: set model.teacher_ckpt to the path '
            'or URL of the teacher\'s weights') from error
    mismatch = stated_mismatch(teacher, content['meta'])
    if mismatch:
        raise TeacherError(
            f'{title}: {mismatch}. Set {key}.data_preprocessor to '
            'that; if the student has another one, also set '
            "model.on_normalization_mismatch='convert'")
    weights = network_weights(content['state_dict'])
    found = misfits(weights, teacher)
    if found:
        none = not set(weights) & set(teacher.state_dict())
        raise TeacherError(
            f'{title} does not fit the teacher {type(teacher).__name__}: '
            f'{found}. Set model.teacher_ckpt to a checkpoint of '
            f'{key}, or {key} to the network of the '
            f'checkpoint{f". {CONVERTERS}" if none else ""}')
    teacher.load_state_dict(weights, strict=False)
    return content['meta']


def load_teachers(teacher: nn.Module,
                  checkpoint: Union[str, Sequence[str]]) -> List[dict]:
    """Load the checkpoint of a teacher, or of each of an ensemble.

    Args:
        teacher (nn.Module): The teacher.
        checkpoint (str | Sequence[str]): See :func:`load_teacher`; one for
            each teacher of a ``TeacherEnsemble``.

    Returns:
        list[dict]: The meta of each.

    Raises:
        TeacherError: If there are more or fewer of them than teachers, or
            one cannot be loaded.
    """
    members, paths = members_of(teacher), as_list(checkpoint)
    if len(members) != len(paths):
        raise TeacherError(
            f'model.teacher_ckpt names {len(paths)} checkpoints for '
            f'{len(members)} teachers: give a list with one for each')
    return [
        load_teacher(member, path, key)
        for member, path, key in zip(members, paths, keys_of(teacher))
    ]


def keys_of(teacher: nn.Module) -> List[str]:
    """Where the config of a teacher, or of each of an ensemble, stands."""
    count = len(members_of(teacher))
    return ['model.teacher'] if count == 1 else [
        f'model.teacher.teachers.{number}' for number in range(count)
    ]


def as_list(value: Union[str, Sequence[str], None]) -> List[str]:
    """The checkpoints that ``model.teacher_ckpt`` names."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def input_conversion(teacher: nn.Module,
                     student: nn.Module,
                     stated: bool,
                     on_mismatch: str,
                     key: str = 'model.teacher') -> Optional[InputConversion]:
    """The conversion from the student's input format to the teacher's.

    Args:
        teacher (nn.Module): The teacher, with its ``data_preprocessor``.
        student (nn.Module): The student's algorithm, with its own.
        stated (bool): Whether the teacher's config has a data preprocessor.
        on_mismatch (str): What to do if they differ: 'error', 'convert' or
            'ignore'.
        key (str): Where the teacher's config stands, for messages. Defaults
            to 'model.teacher'.

    Returns:
        InputConversion | None: None if the images are the same, or taken to
        be.

    Raises:
        TeacherError: If the teacher does not state its normalization, or if
            it differs and ``on_mismatch`` is 'error'.
    """
    if on_mismatch == 'ignore':
        return None
    title = f'the teacher {type(teacher).__name__}'
    if key != 'model.teacher':
        title += f' ({key})'
    own, theirs = map(InputFormat.of_model, (student, teacher))
    if not stated and (theirs is None or theirs.is_plain):
        raise TeacherError(
            f'{title} does not state how its images are normalized: set '
            f'{key}.data_preprocessor to what it was trained with '
            '(mean, std, to_rgb; dict() for none)')
    if theirs.normalizes_like(own) and theirs.to_rgb == own.to_rgb:
        return None
    if on_mismatch == 'error':
        raise TeacherError(
            f'{title} was trained on images normalized by {theirs}; the '
            f'student\'s images have {own}. If both are right, set '
            'model.on_normalization_mismatch=\'convert\', which gives each '
            'network its own')
    return InputConversion(own, theirs)
