# Copyright (c) sdd_mm contributors. All rights reserved.
"""What must be right before a run may touch its work directory."""
import copy
import functools
import logging
import os
import os.path as osp
import re
from difflib import get_close_matches
from typing import Iterator, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, DefaultScope
from mmengine.runner import find_latest_checkpoint
from mmpretrain.datasets import CIFAR10, CustomDataset
from mmpretrain.registry import DATASETS as PRETRAIN_DATASETS
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmrazor.registry import MODELS as RAZOR_MODELS
from mmrazor.registry import TASK_UTILS
from torch import nn

from ..datasets import InMemoryDataset, VerifiedCIFAR100, batch_or_collate
from ..images import channel_order, datasets_of
from ..input_format import stated_mismatch
from ..models.algorithms import FrozenTeacherDistill, TeacherError
from ..runtime.utils import num_classes
from ..safety import load_checkpoint
from ..weights import CONVERTERS
from .config_keys import as_list, check_keys, dotted, find_type
from .config_values import check_values
from .errors import PreflightError
from .hooks.frozen_teacher_hook import META


def check_training(cfg: Config) -> nn.Module:
    """Check keys, data, model, teacher and the checkpoint to start from.

    Args:
        cfg (Config): The config of a run, with ``work_dir``.

    Returns:
        nn.Module: The model that was built to check it.

    Raises:
        PreflightError: If something is unknown, absent, unreadable or does
            not fit.
    """
    check_values(cfg)
    with _scope(cfg):
        check_keys(cfg)
        model = _build_model(cfg)
        _check_built(cfg, model)
        _check_topk(cfg, model)
        for field in ('train_dataloader', 'val_dataloader'):
            _check_data(cfg, field, model)
        _check_same_classes(cfg)
    loaded = channel_order(cfg.train_dataloader)
    if isinstance(model, FrozenTeacherDistill):
        _check_ema(cfg)
    if isinstance(model, FrozenTeacherDistill) and _reads_teacher(model):
        try:
            model.load_teacher()
        except TeacherError as error:
            raise PreflightError(str(error)) from error
        mismatch = stated_mismatch(model.teacher, model.teacher_meta, loaded)
        if mismatch:
            raise PreflightError(
                f'teacher checkpoint {model.teacher_ckpt}: {mismatch}. Set '
                'model.teacher.data_preprocessor.to_rgb, and the student\'s '
                'data_preprocessor.to_rgb, to what the data set needs')
    _check_pretrained(model, loaded)
    _check_start(cfg, model, loaded)
    return model


def _check_topk(cfg: Config, model: nn.Module) -> None:
    """No metric of more classes than there are."""
    classes = num_classes(model)
    for value in as_list(cfg.get('val_evaluator')):
        topk = value.get('topk', 1) if isinstance(value, dict) else 1
        largest = max(topk) if isinstance(topk, (list, tuple)) else topk
        if classes is not None and largest > classes:
            raise PreflightError(
                f'val_evaluator.topk is {topk}, and there are '
                f'{classes} classes')


def _check_built(cfg: Config, model: nn.Module) -> None:
    """What is built from the config alone, or from it and the model."""
    for key, build in (('optim_wrapper',
                        lambda value: build_optim_wrapper(model, value)),
                       ('val_evaluator', METRICS.build)):
        for value in as_list(cfg.get(key)):
            if not isinstance(value, dict):
                continue
            try:
                build(copy.deepcopy(value))
            except Exception as error:
                raise PreflightError(f'{key} cannot be built: '
                                     f'{_says(error)}') from error


def _check_ema(cfg: Config) -> None:
    """The averaged model and the student's have one teacher."""
    for hook in cfg.get('custom_hooks') or ():
        if not isinstance(hook, dict):
            continue
        if hook.get('type') == 'EMAHook' and hook.get('device') is not None:
            raise PreflightError(
                f"custom_hooks: EMAHook(device={hook['device']!r}) would move "
                'the teacher, which the averaged model shares: leave device '
                'out')


def _reads_teacher(model: FrozenTeacherDistill) -> bool:
    """One process of a machine downloads, the others find it there."""
    return '://' not in (model.teacher_ckpt or '') or os.environ.get(
        'LOCAL_RANK', '0') == '0'


def _check_start(cfg: Config, model: nn.Module, loaded: Optional[str]) -> None:
    """The checkpoint to resume or to start from."""
    checkpoint, resume = cfg.get('load_from'), cfg.get('resume', False)
    if resume and checkpoint is None:
        checkpoint = find_latest_checkpoint(cfg.work_dir)
    if checkpoint is None:
        return
    key = '--resume' if resume else 'load_from'
    content = _read(checkpoint, key)
    _check_images(f'{key} {checkpoint}', content, model, loaded)
    if not resume:
        advice = CONVERTERS
        if isinstance(model, FrozenTeacherDistill):
            advice = (
                'To start a student from a checkpoint of its plain config, '
                "set model.architecture.init_cfg=dict(type='Pretrained', "
                f'checkpoint=PATH). {CONVERTERS}')
        _some_fit(f'load_from {checkpoint}', _weights(content), model, advice)
        return
    _check_fit(checkpoint, content, model, 'Resume it with its own config')
    teacher = getattr(model, 'teacher_hash', None)
    theirs = content.get('meta', {}).get(META)
    if teacher and theirs and teacher != theirs:
        if model.teacher_ckpt is None:
            raise PreflightError(
                f'--resume {checkpoint}: its teacher was not trained '
                '(model.allow_untrained_teacher), and its random weights are '
                'in no file: such a run cannot be resumed')
        raise PreflightError(
            f'--resume {checkpoint} was distilled from another teacher: '
            f'SHA-256 {theirs}, not {teacher}. Set model.teacher_ckpt to the '
            'teacher that the run began with')
    _check_resumable(cfg, checkpoint, content)


def _check_resumable(cfg: Config, checkpoint: str, content: dict) -> None:
    """All that a run goes on with, not weights alone."""
    wanted = ['state_dict', 'meta', 'message_hub', 'optimizer']
    if cfg.get('param_scheduler'):
        wanted.append('param_schedulers')
    absent = [key for key in wanted if key not in content]
    absent += [
        f'meta.{key}' for key in ('epoch', 'iter')
        if key not in content.get('meta', {})
    ]
    if absent:
        raise PreflightError(
            f'--resume {checkpoint} has no {", ".join(absent)}: it was not '
            'saved to go on from. Resume from an epoch_N.pth, iter_N.pth or '
            'stopped.pth of the run, or start a new run from its weights with '
            'load_from')


def _check_pretrained(model: nn.Module, loaded: Optional[str]) -> None:
    """Files that ``init_weights()`` will start from; the teacher has none."""
    for name, module in model.named_modules():
        if name.split('.')[0] == 'teacher':
            continue
        for init_cfg in as_list(getattr(module, 'init_cfg', None)):
            if not isinstance(init_cfg, dict) or init_cfg.get('type') not in (
                    'Pretrained', PretrainedInit):
                continue
            checkpoint = init_cfg['checkpoint']
            if '://' in checkpoint:  # published, so none that we converted
                continue
            key = '.'.join(filter(None, ('model', name, 'init_cfg')))
            content = _read(checkpoint, key)
            _check_images(f'{key} {checkpoint}', content, model, loaded)
            prefix, weights = init_cfg.get('prefix'), _weights(content)
            if prefix:
                prefix = f'{prefix.rstrip(".")}.'
                weights = {
                    name[len(prefix):]: value
                    for name, value in weights.items()
                    if name.startswith(prefix)
                }
            _some_fit(
                f'{key} {checkpoint}', weights, module,
                'Does it need another prefix, such as prefix=\'backbone.\'? '
                f'{CONVERTERS}')


def _some_fit(title: str, weights: dict, module: nn.Module,
              advice: str) -> None:
    """A start from nothing is refused, from a part it is told."""
    own = module.state_dict()
    fits = {
        name
        for name, value in weights.items()
        if name in own and getattr(value, 'shape', None) == own[name].shape
    }
    if not fits:
        raise PreflightError(
            f'{title}: none of its {len(weights)} weights '
            f'({", ".join(map(str, list(weights)[:3]))}, ...) is one of the '
            f'{type(module).__name__}. {advice}')
    absent = [
        name for name in own
        if name not in fits and not name.endswith('num_batches_tracked')
    ]
    for names, what in ((absent, 'of the model do not come from it'),
                        ([name for name in weights
                          if name not in fits], 'of its own are not used')):
        if names:
            print_log(
                f'{title}: {len(names)} weights {what}: '
                f'{", ".join(map(str, names[:5]))}'
                f'{", ..." if len(names) > 5 else ""}',
                logger='current',
                level=logging.WARNING)


def _check_images(title: str,
                  content: dict,
                  model: nn.Module,
                  loaded: Optional[str] = None) -> None:
    """Images normalised as those that a checkpoint was trained on."""
    mismatch = stated_mismatch(model, content.get('meta') or {}, loaded)
    if mismatch:
        raise PreflightError(f'{title}: {mismatch}. Set mean, std and to_rgb '
                             'of the config key data_preprocessor to that')


def check_testing(cfg: Config) -> None:
    """Check data, model and the checkpoint to test, every weight of it.

    Args:
        cfg (Config): The config, with ``load_from``.

    Raises:
        PreflightError: If something is absent, unreadable or does not fit.
    """
    with _scope(cfg):
        model = _build_model(cfg)
        _check_data(cfg, 'test_dataloader', model)
    content = _read(cfg.load_from, 'checkpoint')
    _check_images(f'checkpoint {cfg.load_from}', content, model,
                  channel_order(cfg.test_dataloader))
    _check_fit(
        cfg.load_from, content, model,
        'A run\'s student is tested with the config of the run, an '
        'exported one with the config beside it')


def _check_fit(checkpoint: str, content: dict, model: nn.Module,
               remedy: str) -> None:
    """Every weight of the model, and no other."""
    try:
        result = model.load_state_dict(_weights(content), strict=False)
    except RuntimeError as error:  # shapes: torch lists them
        raise PreflightError(f'checkpoint {checkpoint} does not fit the model '
                             f'of the config: {error}. {remedy}') from error
    problems = [
        f'{len(names)} weights {kind}: {", ".join(names[:5])}'
        f'{", ..." if len(names) > 5 else ""}'
        for kind, names in (('are missing', result.missing_keys),
                            ('are not in the model', result.unexpected_keys))
        if names
    ]
    if problems:
        raise PreflightError(
            f'checkpoint {checkpoint} does not fit the model of the config: '
            f'{"; ".join(problems)}. {remedy}')


def _weights(content: dict) -> dict:
    """The state dict, without DataParallel's prefix, as MMEngine loads it."""
    return {
        str(name).removeprefix('module.'): value
        for name, value in content.get('state_dict', content).items()
    }


def _scope(cfg: Config):
    return DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))


def _build_model(cfg: Config) -> nn.Module:
    model = cfg.model.copy()
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    try:
        # as the run itself will, and without moving its random numbers
        with torch.random.fork_rng(devices=[]):
            return MODELS.build(model)
    except Exception as error:
        raise PreflightError('the model cannot be built (config key '
                             f'{_suspects(cfg.model, str(error))}): '
                             f'{_says(error)}') from error


def _suspects(model: dict, error: str) -> str:
    """The keys of a model's config that an error may speak of."""
    argument = re.search(r"unexpected keyword argument '(\w+)'", error)
    absent = re.match(r"'(?:\w+\.)?(\w+) is not in the", error)
    names, near = [], []
    for name in dotted(model, 'model.'):
        if argument and name.endswith(f'.{argument[1]}'):
            names.append(name)
        elif absent and name.endswith('.type'):
            value = functools.reduce(lambda part, key: part[key],
                                     name.split('.')[1:], model)
            if f'{value}' in (absent[1], absent[1].removesuffix('Recorder')):
                names.append(name)
                near = get_close_matches(
                    absent[1],
                    (*RAZOR_MODELS.module_dict, *TASK_UTILS.module_dict,
                     *PRETRAIN_MODELS.module_dict, *MODELS.module_dict),
                    n=1)
    hint = f'; did you mean {near[0].removesuffix("Recorder")}?' if (
        near) else ''
    return (', '.join(names) or '`model`') + hint


def _check_data(cfg: Config, field: str, model: nn.Module) -> None:
    if cfg.get(field) is None:
        return
    for key, config in datasets_of(f'{field}.dataset', cfg[field].dataset):
        found = find_type(DATASETS, config['type'])
        if found is None:
            near = get_close_matches(config['type'], _known_datasets(), n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise PreflightError(f'{key}.type: there is no data set '
                                 f'{config["type"]!r}.{hint}')
        if not (isinstance(found, type) and issubclass(found, BaseDataset)):
            continue  # what it takes is its own affair
        try:
            dataset = DATASETS.build(dict(config, lazy_init=True))
        except Exception as error:
            raise PreflightError(f'the dataset of {key} cannot be built: '
                                 f'{_says(error)}') from error
        if not getattr(dataset, 'download', False):
            for name, path in _paths(dataset):
                if path and '://' not in path and not osp.exists(path):
                    raise PreflightError(
                        f'the {name} of {key} ({found.__name__}) does not '
                        f'exist: {_from_here(path)}. Set {key}.data_root '
                        '(and that of the other dataloaders) to where the '
                        'data is, for instance by --cfg-options '
                        f'{key}.data_root=PATH')
            if _by_folders(dataset):
                _check_folders(key, dataset, model)
            if isinstance(dataset, VerifiedCIFAR100):
                try:
                    dataset.check_files()
                except Exception as error:
                    raise PreflightError(f'{key}: {error}') from error
        _check_classes(key, dataset, model)
        if osp.splitext(dataset.ann_file)[1] in ('.pkl', '.pickle'):
            raise PreflightError(
                f'{key}.ann_file {dataset.ann_file} is a pickle, which may '
                'run code when it is read. If it is your own, make a JSON of '
                'it: mmengine.dump(mmengine.load(OLD), NEW)')
        if not dataset.pipeline.transforms:
            raise PreflightError(f'{key}.pipeline is empty: it ends with '
                                 "dict(type='PackInputs')")
    if find_type(DATASETS, cfg[field].dataset['type']) is InMemoryDataset:
        _check_in_memory(field, cfg[field], model)


def _by_folders(dataset: BaseDataset) -> bool:
    """Whether the folders of a data set number its classes."""
    return (isinstance(dataset, CustomDataset) and dataset.with_label
            and not dataset.ann_file and osp.isdir(dataset.img_prefix))


def _folders(dataset: BaseDataset) -> list:
    """Its class folders, in the order that numbers them."""
    return sorted(
        folder.name for folder in os.scandir(dataset.img_prefix)
        if folder.is_dir() and not folder.name.startswith('.'))


def _check_same_classes(cfg: Config) -> None:
    """Classes are numbered alike wherever folders or names number them."""
    seen: dict = {}
    for field in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if not (cfg.get(field) or {}).get('dataset'):
            continue
        for key, config in datasets_of(f'{field}.dataset', cfg[field].dataset):
            try:
                dataset = DATASETS.build(dict(config, lazy_init=True))
                by_folders = _by_folders(dataset)
                names = (
                    _folders(dataset)
                    if by_folders else dataset.metainfo.get('classes'))
            except Exception:  # a test set need not be there
                continue
            first, known = seen.setdefault(by_folders, (key, names))
            if names is None or known is None or list(known) == list(names):
                continue
            what = 'class folders' if by_folders else 'classes'
            absent, more = (', '.join(sorted(map(str,
                                                 set(a) - set(b)))[:5])
                            for a, b in ((known, names), (names, known)))
            raise PreflightError(
                f'{key} has {len(names)} {what}, {first} has {len(known)}, '
                'and their order numbers the classes. '
                f'Absent from {key}: {absent or "none"}; absent from {first}: '
                f'{more or "none"}. Set data_root to data of the same classes')


def _check_folders(key: str, dataset: BaseDataset, model: nn.Module) -> None:
    """A folder a class, with something in it; MMPretrain only warns."""
    root, outputs = dataset.img_prefix, num_classes(model)
    found = _folders(dataset)
    empty = [
        name for name in found
        if next(os.scandir(osp.join(root, name)), None) is None
    ]
    if empty:
        some = ', '.join(sorted(empty)[:5]) + ', ...' * (len(empty) > 5)
        raise PreflightError(
            f'{key}: {len(empty)} class folders in {root.rstrip("/")} are '
            f'empty: {some}. Each is a class of its own: fill them or remove '
            f'them, or set {key}.data_root to the whole data')
    if outputs is not None and len(found) != outputs:
        some = ', '.join(found[:5]) + ', ...' * (len(found) > 5)
        raise PreflightError(
            f'{key}: {root.rstrip("/")} has {len(found)} class folders '
            f'({some}), the head of '
            f'{type(getattr(model, "architecture", model)).__name__} has '
            f'{outputs} classes: set head.num_classes of the model, and of '
            f'model.teacher, to {len(found)}, or {key}.data_root to the data '
            'of all classes')


def _known_datasets() -> list:
    return [*DATASETS.module_dict, *PRETRAIN_DATASETS.module_dict]


def _check_in_memory(field: str, loader: dict, model: nn.Module) -> None:
    """The pipeline, and what a loader of finished batches needs."""
    try:
        dataset = DATASETS.build(dict(loader['dataset'], lazy_init=True))
    except Exception as error:
        raise PreflightError(f'{field}.dataset: {_says(error)}') from error
    title = f'{field} has an InMemoryDataset'
    collate = (loader.get('collate_fn') or {}).get('type')
    if collate not in ('batch_or_collate', batch_or_collate):
        raise PreflightError(f'{title}, which gives finished batches: set '
                             f"{field}.collate_fn.type='batch_or_collate'")
    for key in ('num_workers', 'pin_memory'):
        if dataset.device == 'cuda' and loader.get(key):
            raise PreflightError(f'{title} on the GPU: set {field}.{key}='
                                 f'{type(loader[key])(0)}, or '
                                 f"{field}.dataset.device='cpu'")
    if field != 'train_dataloader':
        if not dataset.test_mode:
            raise PreflightError(f'{title}: to be evaluated, it needs '
                                 f'{field}.dataset.dataset.test_mode=True')
    elif not dataset.test_mode and getattr(model.data_preprocessor,
                                           'to_onehot', False):
        raise PreflightError(
            f'{title}, whose labels are classes: it cannot be used with '
            'data_preprocessor.to_onehot or the batch augmentations (Mixup, '
            "CutMix) of the student's train_cfg.augments")


def _paths(dataset: BaseDataset) -> Iterator[Tuple[str, str]]:
    yield 'data_root', dataset.data_root
    if isinstance(dataset, CIFAR10):  # and its subclasses
        yield 'folder', osp.join(dataset.data_prefix['root'],
                                 dataset.base_folder)
        return
    yield 'annotation file', dataset.ann_file
    yield 'image folder', dataset.data_prefix.get('img_path', '')


def _check_classes(key: str, dataset: BaseDataset, model: nn.Module) -> None:
    classes = dataset.metainfo.get('classes')
    student = getattr(model, 'architecture', model)
    outputs = num_classes(model)
    if classes is not None and outputs is not None and len(classes) > outputs:
        raise PreflightError(
            f'{key} ({type(dataset).__name__}) has {len(classes)} classes, '
            f'the head of {type(student).__name__} {outputs}: set '
            '`num_classes` of the heads and of data_preprocessor')


def _read(checkpoint: str, key: str) -> dict:
    try:
        content = load_checkpoint(checkpoint, logger='silent')
    except Exception as error:  # a broken file may raise anything
        raise PreflightError(f'{key} {checkpoint} cannot be read: '
                             f'{_says(error)}') from error
    if not isinstance(content, dict):
        raise PreflightError(f'{key} {checkpoint} holds a '
                             f'{type(content).__name__}, not a checkpoint')
    for part in ('meta', 'state_dict'):
        if not isinstance(content.get(part, {}), dict):
            raise PreflightError(
                f'{key} {checkpoint}: its {part} is a '
                f'{type(content[part]).__name__}, not a dict: it is damaged, '
                'or no checkpoint')
    return content


def _from_here(path: str) -> str:
    return path if osp.isabs(path) else f'{path}, seen from {os.getcwd()}'


def _says(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}'
