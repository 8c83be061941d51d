# Copyright (c) sdd_mm contributors. All rights reserved.
"""The student of a distillation, by itself."""
import copy
import hashlib
import io
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.registry import HOOKS, DefaultScope, Registry
from mmpretrain.registry import (DATASETS, METRICS, MODELS, OPTIM_WRAPPERS,
                                 TRANSFORMS)
from torch import Tensor, nn

from ..config_file import load_config, named
from ..engine.config_keys import RUNNER_KEYS, as_list
from ..images import (LOADERS, channel_order, datasets_of, innermost,
                      preprocessor_of)
from ..input_format import META, InputFormat, stated_mismatch
from ..runtime.checkpoints import AtomicBackend
from ..version import __version__
from ..weights import (WeightsError, misfits, network_weights, read_checkpoint,
                       select)
from .checkpoint import ConversionError, refuse
from .graph import write_graphs

# keys of a config that tell of one run
RUN = ('work_dir', 'experiment_name', 'launcher', 'load_from', 'resume',
       'custom_hooks', 'custom_imports')


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
    with which MMPretrain knows it by name. They give the accuracy that the run
    validated. If anything fails nothing is written.

    Args:
        checkpoint (str): A checkpoint of a distillation, or of a student that
            was trained alone.
        target (str): Where to write, with the suffix ``.pth``.
        config (str, optional): The config of the run. Defaults to None: the
            one that the checkpoint holds.
        ema (bool, optional): Whether the averaged weights are taken (True),
            or those that were averaged (False). Defaults to None: the averaged
            ones if there are any, as in validation.
        publish (bool): Whether the first 8 digits of the file's SHA-256 are
            put into its name, as OpenMMLab does. Defaults to False.
        force (bool): Whether files that are there already are replaced.
            Defaults to False.
        graphs (Sequence[str]): 'onnx', 'torchscript': files of these suffixes
            are written, too, whose logits are compared with the student's.
            Defaults to ().
        image_size (tuple[int, int], optional): Height and width of the images
            that they take. Defaults to None: those of the test images.

    Raises:
        ConversionError: If there is no student in it, if it does not fit the
            config or was trained on otherwise normalised images, if ``ema``
            asks for weights that are not there, or if the files are there.

    Returns:
        tuple[Path, nn.Module]: The checkpoint, and the student with its data
        preprocessor, in evaluation mode.

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
        raise ConversionError(f'{target} is the checkpoint itself')
    try:
        content = read_checkpoint(checkpoint)
    except WeightsError as error:
        raise ConversionError(str(error)) from error
    cfg = plain_config(_config(content, checkpoint, config))
    weights = student_weights(content, ema)
    model = _build(cfg)
    mismatch = stated_mismatch(model, content['meta'])
    if mismatch:
        raise ConversionError(f'{mismatch}: --config is not that of the run')
    refuse(misfits(weights, model))
    model.load_state_dict(weights, strict=False)
    model.eval()
    written = write_graphs(model, cfg, graphs, image_size)
    saved = io.BytesIO()
    torch.save(
        dict(meta=_meta(content, model, cfg), state_dict=weights), saved)
    if publish:
        digest = hashlib.sha256(saved.getvalue()).hexdigest()
        path = path.with_name(f'{path.stem}-{digest[:8]}.pth')
    for kind in ('pth', 'py', 'yml', *written):
        file = path.with_suffix(f'.{kind}')
        if file.exists() and not force:
            raise ConversionError(f'{file} is there already: name another '
                                  'target, or replace it with --force')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        AtomicBackend().put(saved.getvalue(), path)  # whole or not at all
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
    """The student's weights in a checkpoint, without what points to it.

    MMEngine's EMA puts the averaged weights in the place of the others when it
    saves, and the others where one would look for the averaged ones.
    """
    weights, raw = content['state_dict'], content.get('ema_state_dict')
    if ema and raw is None:
        raise ConversionError('it holds no averaged weights: no EMAHook was '
                              'in custom_hooks of its run')
    if raw is not None and ema is False:
        weights = {**weights, **select(raw, 'module.')}
    return {
        # a copy: a part of a larger tensor would be saved with all of it
        name: value.detach().clone()
        for name, value in network_weights(weights).items()
    }


def plain_config(cfg: Config) -> Config:
    """The config of the student alone, as MMPretrain reads it.

    What is only for distillation, or for training with this package, is left
    out. What the student is made of stays, and ``custom_imports`` with it
    where a part of it is this package's.
    """
    plain = {
        key: value
        for key, value in cfg.to_dict().items()
        if key in RUNNER_KEYS and key not in RUN
    }
    if not isinstance(plain.get('model'), dict):
        raise ConversionError('the config has no `model`: give that of the '
                              'run by --config')
    model = plain['model']
    plain['data_preprocessor'] = preprocessor_of(plain)
    if 'architecture' in model:
        model = model['architecture']
        if 'cfg_path' in model:
            raise ConversionError(
                'its model.architecture is a cfg_path: give --config, whose '
                'model.architecture says what the student is made of')
    for key in ('_scope_', 'data_preprocessor'):
        model.pop(key, None)
    plain['model'] = model
    if not plain.get('test_dataloader') and plain.get('val_dataloader'):
        # MMPretrain's inferencers take images as the test does
        for part in ('dataloader', 'evaluator', 'cfg'):
            plain[f'test_{part}'] = copy.deepcopy(
                plain.get(f'val_{part}') or {})
    for key in [key for key in plain if key.endswith('_dataloader')]:
        loader = plain[key]
        if loader and 'dataset' in loader:
            while loader['dataset']['type'] == 'InMemoryDataset':
                loader['dataset'] = loader['dataset']['dataset']
                loader.pop('collate_fn', None)
            # MMPretrain's inferencers know it by this name only
            for _, dataset in datasets_of('dataset', loader['dataset']):
                for step in dataset.get('pipeline') or ():
                    if step.get('type') in LOADERS:
                        step['type'] = 'LoadImageFromFile'
    if 'default_hooks' in plain:
        plain['default_hooks'] = {
            name: hook
            for name, hook in plain['default_hooks'].items()
            if not (hook and _is_ours(HOOKS, hook.get('type')))
        }
    wrapper = plain.get('optim_wrapper')
    if wrapper and _is_ours(OPTIM_WRAPPERS, wrapper.get('type')):
        wrapper['type'] = wrapper['type'].replace('Deferred', '')
    hooks = [
        hook for hook in cfg.get('custom_hooks') or ()
        if not _is_ours(HOOKS, hook['type'])
    ]
    plain.update(default_scope='mmpretrain', custom_hooks=hooks)
    imports = [
        name
        for name in as_list((cfg.get('custom_imports') or {}).get('imports'))
        if name not in (None, 'sdd_mm')
    ]
    if _names_ours(plain):
        imports.insert(0, 'sdd_mm')
    if imports:
        plain['custom_imports'] = dict(
            imports=imports, allow_failed_imports=False)
    return Config(plain)


def _config(content: dict, checkpoint: str, config: Optional[str]) -> Config:
    if config is not None:
        try:
            return load_config(config)
        except Exception as error:  # a config file may do anything
            raise ConversionError(f'--config {config}: {type(error).__name__}:'
                                  f' {error}') from error
    text = content['meta'].get('cfg')
    if not isinstance(text, str):
        raise ConversionError(
            f'{checkpoint} holds no config: give that of its run by --config')
    # data only, or it was not read; its custom_imports are imported
    try:
        return named(Config.fromstring(text, '.py'))
    except Exception as error:  # of whatever made the checkpoint
        raise ConversionError(
            f'the config in {checkpoint} cannot be read: give that of its run '
            f'by --config ({type(error).__name__}: {error})') from error


def _build(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.get('data_preprocessor')))


def _meta(content: dict, model: nn.Module, cfg: Config) -> dict:
    """Plain values of the run's meta, and what the images are like."""
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
    """What MMPretrain's ModelHub reads, and finds the inferencer by."""
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


def _is_ours(registry: Registry, kind) -> bool:
    found = registry.get(kind) if isinstance(kind, str) else kind
    return getattr(found, '__module__', '').split('.')[0] == 'sdd_mm'


def _names_ours(value) -> bool:
    """Whether a type in a config is this package's."""
    if isinstance(value, dict):
        kind = value.get('type')
        return isinstance(kind, str) and any(
            _is_ours(registry, kind)
            for registry in (MODELS, DATASETS, TRANSFORMS, METRICS,
                             HOOKS)) or any(map(_names_ours, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_names_ours, value))
