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

from ..analysis.report import logged
from ..analysis.validation import validation_loader
from ..config_file import run_config
from ..images import channel_order, innermost
from ..input_format import META, InputFormat, stated_mismatch
from ..runtime.checkpoints import AtomicBackend
from ..version import __version__
from ..weights import (WeightsError, misfits, network_weights, read_checkpoint,
                       select)
from .checkpoint import ConversionError, refuse
from .graph import Graph, write_graphs
from .infer_script import NAME, infer_script
from .plain_config import plain_config
from .quantized import Run, quantize

KINDS = ('pth', 'py', 'yml')


def export_student(checkpoint: str,
                   target: str,
                   config: Optional[str] = None,
                   ema: Optional[bool] = None,
                   publish: bool = False,
                   force: bool = False,
                   graphs: Sequence[str] = (),
                   image_size: Optional[Tuple[int, int]] = None,
                   int8: bool = False) -> Tuple[Path, nn.Module]:
    """Write the student of a distillation for plain MMPretrain.

    Three files are written: the checkpoint, of tensors and plain values only,
    and beside it the student's config, ``.py``, and its model index, ``.yml``,
    by which MMPretrain finds it by name. They give the accuracy that the run
    validated, and the index states it. With an ONNX file comes ``infer.py``,
    which classifies pictures by it. If anything fails, nothing is written.

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
        int8 (bool): Whether to write ``.int8.onnx``, too: the ONNX file in
            eight bits, calibrated on training images. Both are measured on
            the validation images. Defaults to False.

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
    if int8 and 'onnx' not in graphs:
        graphs = [*graphs, 'onnx']
    written = write_graphs(model, cfg, graphs, image_size,
                           meta['dataset_meta'].get('classes', ()))
    if int8:
        written.update(_in_eight_bits(written['onnx'], cfg))
    script = infer_script(cfg, written['onnx'].size) if ('onnx'
                                                         in written) else None
    saved = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=weights), saved)
    if publish:
        digest = hashlib.sha256(saved.getvalue()).hexdigest()
        path = path.with_name(f'{path.stem}-{digest[:8]}.pth')
    files = [path.with_suffix(f'.{kind}') for kind in (*KINDS, *written)]
    for file in files + [path.with_name(NAME)] * (script is not None):
        if file.exists() and not force:
            raise ConversionError(f'{file} exists: choose another target, or '
                                  'replace it with --force')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        AtomicBackend().put(saved.getvalue(), path)
        cfg.dump(str(path.with_suffix('.py')))
        dump(
            _model_index(path, cfg, {} if ema is False else validated(
                Path(checkpoint), content['meta'])), path.with_suffix('.yml'))
        for kind, graph in written.items():
            file = path.with_suffix(f'.{kind}')
            AtomicBackend().put(graph.content, file)
            print_log(f'{file}: {graph.text}')
        if script is not None:
            path.with_name(NAME).write_text(script, encoding='utf-8')
            print_log(f'{path.with_name(NAME)}: classifies pictures by it')
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


def _in_eight_bits(graph: Graph, cfg: Config) -> Dict[str, Graph]:
    """Both ONNX files, each with what was measured of it."""
    loader, content = validation_loader(cfg), quantize(graph.content, cfg)
    plain, small = (
        Run(one).describe(loader) for one in (graph.content, content))
    return {
        'onnx': graph._replace(text=f'{graph.text}; {plain}'),
        'int8.onnx': Graph(content, small, graph.size)
    }


def validated(checkpoint: Path, meta: dict) -> Dict[str, float]:
    """Accuracies (%) that a run has logged for the epoch of its checkpoint.

    Args:
        checkpoint (Path): A checkpoint in the work directory of its run.
        meta (dict): Its meta.

    Returns:
        dict[str, float]: By the names of OpenMMLab's metafiles. Empty if the
        run did not validate after this epoch, or its logs are gone.
    """
    found = {}
    for name, (steps, values) in logged(checkpoint.parent,
                                        'accuracy/').items():
        if steps and steps[-1] == meta.get('epoch'):
            number = name.removeprefix('top')
            found[f'Top {number} Accuracy'] = round(values[-1], 2)
    return found


def _model_index(path: Path, cfg: Config, metrics: Dict[str, float]) -> dict:
    """What MMPretrain's ModelHub reads; ``Results`` select the inferencer."""
    loader = cfg.get('test_dataloader') or cfg.get('train_dataloader')
    dataset = innermost(loader['dataset'])['type'] if loader else 'unknown'
    return dict(Models=[
        dict(
            Name=path.stem,
            Config=path.with_suffix('.py').name,
            Weights=path.name,
            Results=[
                dict(
                    Task='Image Classification',
                    Dataset=dataset,
                    Metrics=metrics)
            ])
    ])
