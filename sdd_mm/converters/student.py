# Copyright (c) sdd_mm contributors. All rights reserved.
"""Exports the student of a distillation."""
import hashlib
import io
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..config_file import run_config
from ..images import channel_order, innermost
from ..input_format import META, InputFormat, stated_mismatch
from ..runtime.checkpoints import AtomicBackend
from ..version import __version__
from ..weights import (WeightsError, misfits, network_weights, read_checkpoint,
                       select)
from .checkpoint import ConversionError, refuse
from .graph import write_graphs
from .plain_config import plain_config


def export_student(
        checkpoint: str,
        target: str,
        config: Optional[str] = None,
        ema: Optional[bool] = None,
        publish: bool = False,
        force: bool = False,
        graphs: Sequence[str] = (),
        image_size: Optional[Tuple[int,
                                   int]] = None) -> Tuple[Path, nn.Module]:
    """Write the student of a distillation for plain MMPretrain.

    Three files are written: the checkpoint, of tensors and plain values only,
    and beside it the student's config, ``.py``, and its model index, ``.yml``,
    by which MMPretrain finds it by name. They give the accuracy that the run
    validated. If anything fails, nothing is written.

    Args:
        checkpoint (str): A checkpoint of a distillation, or of a student that
            was trained alone.
        target (str): The checkpoint to write, ``.pth``.
        config (str, optional): The config of the run. Defaults to None: the
            one in the checkpoint.
        ema (bool, optional): Whether to take the averaged weights (True), or
            those that were averaged (False). Defaults to None: the averaged
            ones if there are any, as in validation.
        publish (bool): Whether to put the first 8 digits of the file's
            SHA-256 into its name, as OpenMMLab does. Defaults to False.
        force (bool): Whether to replace existing files. Defaults to False.
        graphs (Sequence[str]): 'onnx', 'torchscript': also write files with
            these suffixes, whose logits are compared with the student's.
            Defaults to ().
        image_size (tuple[int, int], optional): Height and width of the images
            that they take, in pixels. Defaults to None: those of the test
            images.

    Returns:
        tuple[Path, nn.Module]: The checkpoint, and the student with its data
        preprocessor, in eval mode.

    Raises:
        ConversionError: If there is no student in the checkpoint, if it does
            not fit the config or was trained on images with another
            normalization, if ``ema`` selects weights that do not exist, or if
            a file exists or cannot be written.

    Examples:
        >>> path, model = export_student(
        ...     'work_dirs/demo/sd-kd/epoch_12.pth', 'student.pth')
        >>> from mmpretrain import get_model
        >>> get_model(str(path.with_suffix('.py')), pretrained=str(path))
    """
    path = Path(target)
    if path.suffix != '.pth':
        raise ConversionError(f'{target} must end in .pth')
    if path.resolve() == Path(checkpoint).resolve():
        raise ConversionError(f'{target} is the checkpoint to export: choose '
                              'another target')
    try:
        content = read_checkpoint(checkpoint)
        cfg = plain_config(run_config(content['meta'], config))
    except WeightsError as error:
        raise ConversionError(str(error)) from error
    except ValueError as error:
        raise ConversionError(f'{checkpoint}: {error}') from error
    weights = student_weights(content, ema)
    model = MODELS.build(
        dict(
            cfg.model,
            _scope_='mmpretrain',
            data_preprocessor=cfg.get('data_preprocessor')))
    mismatch = stated_mismatch(model, content['meta'])
    if mismatch:
        raise ConversionError(f'{mismatch}: --config is not that of the run')
    refuse(misfits(weights, model))
    model.load_state_dict(weights, strict=False)
    model.eval()
    meta = _meta(content, model, cfg)
    written = write_graphs(model, cfg, graphs, image_size,
                           meta['dataset_meta'].get('classes', ()))
    saved = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=weights), saved)
    if publish:
        digest = hashlib.sha256(saved.getvalue()).hexdigest()
        path = path.with_name(f'{path.stem}-{digest[:8]}.pth')
    for kind in ('pth', 'py', 'yml', *written):
        file = path.with_suffix(f'.{kind}')
        if file.exists() and not force:
            raise ConversionError(f'{file} exists: choose another target, or '
                                  'replace it with --force')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        AtomicBackend().put(saved.getvalue(), path)
        cfg.dump(str(path.with_suffix('.py')))
        dump(_model_index(path, cfg), path.with_suffix('.yml'))
        for kind, graph in written.items():
            file = path.with_suffix(f'.{kind}')
            AtomicBackend().put(graph.content, file)
            print_log(f'{file}: {graph.text}')
    except OSError as error:
        raise ConversionError(f'{path} cannot be written: {error}') from error
    return path, model


def student_weights(content: dict, ema: Optional[bool]) -> Dict[str, Tensor]:
    """The student's weights in a checkpoint, by their names in the student.

    When MMEngine's ``EMAHook`` saves a checkpoint, it swaps them: the averaged
    weights are in ``state_dict``, the others in ``ema_state_dict``.

    Args:
        content (dict): A checkpoint, see :func:`read_checkpoint`.
        ema (bool, optional): As in :func:`export_student`.

    Returns:
        dict[str, Tensor]: Copies of the weights.

    Raises:
        ConversionError: If ``ema`` is True and there are no averaged weights.
    """
    weights, raw = content['state_dict'], content.get('ema_state_dict')
    if ema and raw is None:
        raise ConversionError('it holds no averaged weights: no EMAHook was '
                              'in custom_hooks of its run')
    if raw is not None and ema is False:
        weights = {**weights, **select(raw, 'module.')}
    return {
        # a copy, because a view would be saved with the whole tensor
        name: value.detach().clone()
        for name, value in network_weights(weights).items()
    }


def _meta(content: dict, model: nn.Module, cfg: Config) -> dict:
    """Plain values of the run's meta, and the format of the images."""
    meta = content['meta']
    classes = (meta.get('dataset_meta') or {}).get('classes')
    kept = {
        key: meta[key]
        for key in ('epoch', 'iter', 'seed', 'teacher_sha256')
        if isinstance(meta.get(key), (int, str))
    }
    loader = cfg.get('train_dataloader') or cfg.get('test_dataloader')
    loaded = channel_order(loader) if loader else None
    kept[META] = (InputFormat.of_model(model, loaded) or InputFormat()).meta()
    return dict(
        kept,
        sdd_mm=__version__,
        dataset_meta={} if classes is None else dict(
            classes=list(map(str, classes))))


def _model_index(path: Path, cfg: Config) -> dict:
    """What MMPretrain's ModelHub reads; ``Results`` select the inferencer."""
    loader = cfg.get('test_dataloader') or cfg.get('train_dataloader')
    dataset = innermost(loader['dataset'])['type'] if loader else 'unknown'
    return dict(Models=[
        dict(
            Name=path.stem,
            Config=path.with_suffix('.py').name,
            Weights=str(path.resolve()),
            Results=[
                dict(Task='Image Classification', Dataset=dataset, Metrics={})
            ])
    ])
