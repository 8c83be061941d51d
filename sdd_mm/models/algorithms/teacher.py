# Copyright (c) sdd_mm contributors. All rights reserved.
"""Loading a teacher so that it is the one that was meant."""
import hashlib
import os.path as osp
from typing import Dict, Optional, Tuple

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn


class TeacherError(RuntimeError):
    """A teacher that is not, or cannot be, the one that was meant."""


def load_teacher(teacher: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint into a teacher, every weight of it and no other.

    Args:
        teacher (nn.Module): The teacher.
        checkpoint (str): Path or URL of an MMPretrain checkpoint. One that
            this package saved holds its student under ``architecture.``, and
            that student is loaded.

    Raises:
        TeacherError: If the file is absent or cannot be read, or if weights
            are missing, left over, of another shape or not finite; all of
            them are listed.
    """
    weights = _read(checkpoint)
    problems = []
    try:
        result = teacher.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes: torch lists them
        problems.append(str(error))
    else:
        # counters of BatchNorm are absent from old checkpoints and of no use
        # to a teacher in eval mode
        missing = [
            name for name in result.missing_keys
            if not name.endswith('num_batches_tracked')
        ]
        broken = [
            name for name, value in teacher.state_dict().items()
            if not value.isfinite().all()
        ]
        problems += [
            f'{len(names)} weights {kind}: {", ".join(names)}'
            for kind, names in (('are missing from the checkpoint', missing),
                                ('of the checkpoint are not in the teacher',
                                 result.unexpected_keys), ('are not finite',
                                                           broken)) if names
        ]
    if problems:
        raise TeacherError(
            f'{checkpoint} does not hold the weights of the teacher '
            f'{type(teacher).__name__}. {"; ".join(problems)}. Set '
            'model.teacher_ckpt to a checkpoint of model.teacher, or '
            'model.teacher to the network of the checkpoint')


def _read(checkpoint: str) -> Dict[str, Tensor]:
    checkpoint = osp.expanduser(checkpoint)
    if '://' not in checkpoint and not osp.isfile(checkpoint):
        raise TeacherError(
            f'teacher checkpoint {checkpoint} does not exist: set '
            'model.teacher_ckpt to the path or URL of the teacher\'s weights')
    try:
        content = CheckpointLoader.load_checkpoint(
            checkpoint, map_location='cpu')
    except Exception as error:  # a broken file may raise anything
        raise TeacherError(
            f'teacher checkpoint {checkpoint} cannot be read (model.'
            f'teacher_ckpt): {type(error).__name__}: {error}') from error
    weights = content
    if isinstance(content, dict):
        weights = content.get('state_dict', content)
    if not isinstance(weights, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in weights.items()):
        raise TeacherError(
            f'teacher checkpoint {checkpoint} holds no state dict of tensors '
            '(model.teacher_ckpt)')
    weights = {
        name[len('module.'):] if name.startswith('module.') else name: value
        for name, value in weights.items()
    }
    student = 'architecture.'
    if any(name.startswith(student) for name in weights):
        weights = {
            name[len(student):]: value
            for name, value in weights.items() if name.startswith(student)
        }
    return {
        name: value
        for name, value in weights.items()
        if not name.startswith('data_preprocessor.')
    }


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of a model's weights: names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name.endswith('num_batches_tracked'):
            continue
        value = value.detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def normalization(model: nn.Module) -> Optional[Tuple]:
    """Mean, std and channel order that a model's images come in.

    Returns:
        tuple | None: (mean, std, to_rgb) of its data preprocessor, with mean
        0 and std 1 where it does not normalise; None if it has none.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None:
        return None
    mean, std = (0., ), (1., )
    if getattr(preprocessor, '_enable_normalize', False):
        mean = tuple(preprocessor.mean.flatten().tolist())
        std = tuple(preprocessor.std.flatten().tolist())
    to_rgb = getattr(preprocessor, 'to_rgb',
                     getattr(preprocessor, '_channel_conversion', False))
    return mean, std, bool(to_rgb)
