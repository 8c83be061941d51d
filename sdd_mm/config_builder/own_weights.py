# Copyright (c) sdd_mm contributors. All rights reserved.
"""The weights that a teacher of timm or Hugging Face brings with it."""
import re
from pathlib import Path
from typing import NamedTuple, Optional

from mmengine.logging import print_log

from ..converters import ConversionError
from ..converters.checkpoint import write
from ..converters.hugging_face import convert_hugging_face
from ..converters.timm_pretrained import (AbsentWeightsError,
                                          convert_timm_pretrained)
from ..input_format import META
from ..weights import WeightsError, read_checkpoint, state_hash
from .sources import HUGGING_FACE, TIMM, ConfigBuilderError

DIGITS = 12


class OwnWeights(NamedTuple):
    """Converted weights and the file beside the config that will hold them.

    Args:
        path (Path): The file.
        checkpoint (dict): Its content.
        note (str): Where the weights are from, and their SHA-256.
    """
    path: Path
    checkpoint: dict
    note: str

    def write(self) -> bool:
        """Write the file; False if it was there, with these weights."""
        if self.path.exists():
            return False  # its name has their hash
        part = self.path.with_name(f'{self.path.name}.part')
        try:
            write(str(part), self.checkpoint)
            part.replace(self.path)
        except (ConversionError, OSError) as error:
            raise ConfigBuilderError(f'{self.path} cannot be written: '
                                     f'{error}') from error
        return True


def stated_images(checkpoint: str) -> dict:
    """Mean and std that a checkpoint file states, as of a data preprocessor.

    A converted checkpoint may be of a training with others than timm's.
    """
    if '://' in checkpoint or not Path(checkpoint).expanduser().is_file():
        return {}
    try:
        stated = read_checkpoint(checkpoint)['meta'].get(META)
    except WeightsError:
        return {}  # building the teacher says it
    return {key: stated[key] for key in ('mean', 'std')} if stated else {}


def own_weights(teacher: str, classes: int, out: Path) -> Optional[OwnWeights]:
    """Find and convert the weights of a teacher on this machine.

    Args:
        teacher (str): As of :func:`~sdd_mm.config_builder.make_config`.
        classes (int): Number of classes of the student.
        out (Path): The config that will name them.

    Returns:
        OwnWeights | None: None for the teacher of a config, and if the
        weights of a timm model are on no disk, which is said.

    Raises:
        ConfigBuilderError: If they do not fit.
    """
    kind, _, name = teacher.partition('::')
    try:
        if f'{kind}::' == HUGGING_FACE:
            checkpoint = convert_hugging_face(name)
            source = checkpoint['meta']['converted_from']
            name = source
        elif f'{kind}::' == TIMM:
            checkpoint, path = convert_timm_pretrained(name, classes)
            source = str(path)
        else:
            return None
    except AbsentWeightsError as error:
        print_log(f'teacher {teacher}: {error}, or pass a checkpoint of your '
                  'own as teacher_ckpt (--teacher-ckpt)')
        return None
    except ConversionError as error:
        raise ConfigBuilderError(f'teacher {teacher}: {error}') from error
    digest = state_hash(checkpoint['state_dict'])
    name = re.sub(r'[^\w.-]', '_', name)
    return OwnWeights(
        out.with_name(f'{kind}_{name}_{digest[:DIGITS]}.pth'), checkpoint,
        f'# weights of the teacher: {source}, SHA-256 {digest}')
