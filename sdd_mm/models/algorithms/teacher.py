# Copyright (c) sdd_mm contributors. All rights reserved.
"""Loading a teacher so that it is the one that was meant."""
import hashlib
import math
import os
import os.path as osp
from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...config_text import read_config
from ...errors import SDDError
from ...images import channel_order, preprocessor_of
from ...safety import load_checkpoint

# where a checkpoint's meta says what its network's images looked like
INPUT_NORMALIZATION = 'input_normalization'
CONVERTERS = ('A checkpoint of RepDistiller, mdistiller, torchvision or timm '
              'is converted first, by tools/model_converters/')


class TeacherError(SDDError, RuntimeError):
    """A teacher that is not, or cannot be, the one that was meant."""


def load_teacher(teacher: nn.Module, checkpoint: str) -> dict:
    """Load a checkpoint into a teacher, every weight of it and no other.

    Args:
        teacher (nn.Module): The teacher.
        checkpoint (str): Path or URL of an MMPretrain checkpoint. One that
            this package saved holds its student under ``architecture.``, and
            that student is loaded.

    Returns:
        dict: The checkpoint's meta.

    Raises:
        TeacherError: If the file is absent or cannot be read, if weights are
            missing, left over, of another shape or not finite (all of them
            are listed), or if the checkpoint states another input
            normalisation than the teacher's data preprocessor.
    """
    weights, meta = _read(checkpoint)
    mismatch = normalization_mismatch(teacher, meta)
    if mismatch:
        raise TeacherError(
            f'teacher checkpoint {checkpoint}: {mismatch}. Set '
            'model.teacher.data_preprocessor to that; a student with '
            'another one then needs model.on_normalization_mismatch='
            "'convert'")
    if not set(weights) & set(teacher.state_dict()):
        raise TeacherError(
            f'none of the {len(weights)} weights of {checkpoint} '
            f'({", ".join(list(weights)[:3])}, ...) is one of the teacher '
            f'{type(teacher).__name__}. Set model.teacher_ckpt to one of '
            f'model.teacher. {CONVERTERS}')
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
            f'{type(teacher).__name__}. {"; ".join(problems).rstrip(".")}. '
            'Set model.teacher_ckpt to a checkpoint of model.teacher, or '
            'model.teacher to the network of the checkpoint')
    return meta


def _read(checkpoint: str) -> Tuple[Dict[str, Tensor], dict]:
    checkpoint = osp.expanduser(checkpoint)
    if '://' not in checkpoint and not osp.isfile(checkpoint):
        raise TeacherError(
            f'teacher checkpoint {checkpoint} does not exist'
            f'{"" if osp.isabs(checkpoint) else f" in {os.getcwd()}"}: set '
            'model.teacher_ckpt to the path or URL of the teacher\'s weights')
    try:
        content = load_checkpoint(checkpoint)
    except Exception as error:  # a broken file may raise anything
        raise TeacherError(
            f'teacher checkpoint {checkpoint} cannot be read (model.'
            f'teacher_ckpt): {type(error).__name__}: {error}') from error
    weights, meta = content, {}
    if isinstance(content, dict) and 'state_dict' in content:
        weights, meta = content['state_dict'], content.get('meta') or {}
    if not isinstance(weights, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in weights.items()):
        raise TeacherError(
            f'teacher checkpoint {checkpoint} holds no state dict of tensors '
            f'(model.teacher_ckpt). {CONVERTERS}')
    if not isinstance(meta, dict):
        raise TeacherError(
            f'teacher checkpoint {checkpoint} is damaged (model.teacher_ckpt):'
            f' its meta is a {type(meta).__name__}, not a dict')
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
    }, meta


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


def network_hash(model: nn.Module) -> str:
    """SHA-256 of a model's modules as they print themselves."""
    return hashlib.sha256(repr(model).encode()).hexdigest()


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


def normalization_mismatch(model: nn.Module,
                           meta: dict,
                           loaded: Optional[str] = None) -> Optional[str]:
    """How a model's images differ from what a checkpoint was trained on.

    A converted checkpoint states its mean and std, in the order of the
    channels that its network sees. One that MMEngine saved holds the config
    of its run, which says the same.

    Args:
        model (nn.Module): A model with its ``data_preprocessor``.
        meta (dict): The checkpoint's meta.
        loaded (str, optional): The channel order in which the data set loads
            images, 'RGB' or 'BGR'. Defaults to None, not known: the orders
            are not compared then, since ``to_rgb`` only says whether the data
            preprocessor swaps the channels.

    Returns:
        str | None: The two normalisations, None if they agree or the
        checkpoint states none.
    """
    stated = meta.get(INPUT_NORMALIZATION) or _trained_on(meta.get('cfg'))
    if stated is None:
        return None
    if not {'mean', 'std', 'channel_order'} <= set(stated):
        return (f'its meta says {INPUT_NORMALIZATION}={stated}, which lacks '
                'mean, std or channel_order')
    own = normalization(model)
    if own is not None and _close(own[0], stated['mean']) and _close(
            own[1], stated['std']):
        seen = loaded and (loaded[::-1] if own[2] else loaded)
        if None in (seen,
                    stated['channel_order']) or (seen
                                                 == stated['channel_order']):
            return None
        return (f'it was trained on {stated["channel_order"]} images, the '
                f'data set loads {loaded} and to_rgb={own[2]} of the data '
                f'preprocessor makes it {seen}')
    found = 'there is none' if own is None else _says(own[0], own[1])
    order = f'{stated["channel_order"] or ""} images'.strip()
    return (f'it was trained on {order} normalised '
            f'by {_says(stated["mean"], stated["std"])}, in the data '
            f'preprocessor {found}')


def _trained_on(config: Optional[str]) -> Optional[dict]:
    """The normalisation in the text of a run's config, if it tells."""
    try:
        cfg = read_config(config)
        preprocessor = preprocessor_of(dict(dict(model={}), **cfg))
        mean, std = preprocessor.get('mean'), preprocessor.get('std')
        if mean is None:
            mean, std = (0., ), (1., )
        mean, std = ([float(v) for v in values] for values in (mean, std))
        to_rgb = any(preprocessor.get(key) for key in ('to_rgb', 'bgr_to_rgb'))
    except (ValueError, TypeError, AttributeError):
        return None
    try:
        loaded = channel_order(cfg['train_dataloader'])
    except (TypeError, KeyError, AttributeError, StopIteration):
        loaded = None
    return dict(
        mean=mean,
        std=std,
        channel_order=loaded and (loaded[::-1] if to_rgb else loaded))


def _close(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    size = max(len(ours), len(theirs))
    ours, theirs = (
        list(values) * (size if len(values) == 1 else 1)
        for values in (ours, theirs))
    return len(ours) == len(theirs) and all(
        math.isclose(a, b, rel_tol=1e-4) for a, b in zip(ours, theirs))


def _says(mean: Sequence[float], std: Sequence[float]) -> str:
    return ', '.join(f'{name} [{", ".join(f"{v:.6g}" for v in values)}]'
                     for name, values in (('mean', mean), ('std', std)))
