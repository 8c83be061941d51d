# Copyright (c) sdd_mm contributors. All rights reserved.
"""The configs of a run over pictures, as text to read and edit."""
import copy
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmpretrain.apis import ModelHub
from mmpretrain.registry import MODELS

from ..config_builder.code import Code, format_code, to_code
from ..config_builder.sources import published_checkpoint
from ..config_file import load_config
from ..errors import SDDError
from ..images import student_arguments
from ..weights import WeightsError, misfits, read_checkpoint
from .photos import Photos

HEADER = '# by `python -m sdd_mm.distill`: change it, and call that again'
BASES = "_base_ = ['data.py', 'mmpretrain::_base_/default_runtime.py']"
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's
NONE = 'none'
SCALES = (1, 2, 4)
# learning rates of AdamW, from random weights and from trained ones
SCRATCH, TUNED = 1e-3, 2e-4


class NetworkError(SDDError, ValueError):
    """A network that cannot be read or cannot learn these classes."""


class Network(NamedTuple):
    """A network for the classes of the pictures.

    Args:
        title (str): How the user named it.
        model (dict): Its config.
        checkpoint (str, optional): The weights that it has or starts from.
        trained (bool): Whether these weights are of a classifier of as many
            classes.
        preprocessor (dict): What its weights were trained with.
    """
    title: str
    model: dict
    checkpoint: Optional[str]
    trained: bool
    preprocessor: dict


def read_network(role: str, name: str, checkpoint: Optional[str],
                 num_classes: int) -> Network:
    """A network by its name, config or file.

    Args:
        role (str): 'teacher' or 'student'.
        name (str): A model of MMPretrain's index, ``mmpretrain::PATH``, or
            the path of a config.
        checkpoint (str, optional): Path or URL of its weights, 'none' for
            random ones. Defaults to None: those that MMPretrain publishes.
        num_classes (int): Number of classes.

    Raises:
        NetworkError: If there is no such network.
    """
    try:
        if '::' in name:
            cfg, published = get_config(name), published_checkpoint(name)
        elif name.endswith('.py'):
            cfg, published = load_config(Path(name).expanduser()), None
        else:
            found = ModelHub.get(name)
            cfg, published = found.config, found.weights
    except Exception as error:  # a config file may raise anything
        raise NetworkError(
            f'--{role} {name} is no config that can be read, and no name that '
            f'mmpretrain.list_models() has: {type(error).__name__}: '
            f'{error}') from error
    model = cfg.model.to_dict()
    model = model.get('architecture', model)
    preprocessor = student_arguments(
        model.pop('data_preprocessor', None) or cfg.get('data_preprocessor'))
    _fit_classes(role, name, model, num_classes)
    checkpoint = published if checkpoint is None else checkpoint
    if checkpoint == NONE:
        checkpoint = None
    return Network(name, model, checkpoint, _is_trained(model, checkpoint),
                   preprocessor)


def _fit_classes(role: str, name: str, model: dict, num_classes: int) -> None:
    head = model.get('head')
    if not isinstance(head, dict) or 'num_classes' not in head:
        raise NetworkError(
            f'--{role} {name} has no head with num_classes, so it is no '
            'classifier whose classes can be changed: choose another, or '
            'write its config by hand')
    head['num_classes'] = num_classes
    loss = head.get('loss')
    if isinstance(loss, dict) and 'num_classes' in loss:
        loss['num_classes'] = num_classes
    if 'topk' in head:
        head['topk'] = (1, )
    for key in ('train_cfg', 'pretrained', 'init_cfg'):
        model.pop(key, None)
    model['backbone'].pop('init_cfg', None)


def _is_trained(model: dict, checkpoint: Optional[str]) -> bool:
    """Whether a file has all weights, head included."""
    if checkpoint is None or '://' in checkpoint:
        return False
    try:
        weights = read_checkpoint(checkpoint)['state_dict']
    except WeightsError as error:
        raise NetworkError(str(error)) from error
    return not misfits(weights, MODELS.build(copy.deepcopy(model)))


def data_text(photos: Photos, lists: dict, image_size: int, batch_size: int,
              workers: int) -> str:
    """The config of the data: crops of photographs, colors of ImageNet."""

    def loader(part: str, pipeline: List[dict], shuffle: bool) -> dict:
        return dict(
            batch_size=batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
            dataset=dict(
                type='CustomDataset',
                data_root=str(photos.folder.resolve()),
                ann_file=str(lists[part].resolve()),
                classes=Code('classes'),
                pipeline=pipeline),
            sampler=dict(type='DefaultSampler', shuffle=shuffle))

    load, pack = dict(type='LoadImageFromFile'), dict(type='PackInputs')
    train = loader('train', [
        load,
        dict(
            type='RandomResizedCrop',
            scale=image_size,
            crop_ratio_range=(0.35, 1.0),
            backend='pillow'),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'), pack
    ], True)
    val = loader(
        'val',
        [
            load,
            dict(
                type='ResizeEdge',
                scale=round(image_size * 256 / 224),
                edge='short',
                backend='pillow'),  # as infer.py does
            dict(type='CenterCrop', crop_size=image_size),
            pack
        ],
        False)
    return format_code('\n'.join([
        HEADER, f'classes = {to_code(photos.classes)}',
        'data_preprocessor = ' + to_code(
            dict(
                num_classes=len(photos.classes),
                mean=MEAN,
                std=STD,
                to_rgb=True)), f'train_dataloader = {to_code(train)}',
        f'val_dataloader = {to_code(val)}',
        "val_evaluator = dict(type='Accuracy', topk=(1, ))",
        'test_dataloader, test_evaluator = val_dataloader, val_evaluator', ''
    ]))


def network_text(network: Network, epochs: int, seed: int) -> str:
    """The config that trains a network, from its weights if it has some."""
    model = network.model
    if network.checkpoint is not None:
        start = dict(
            type='Pretrained',
            checkpoint=network.checkpoint,
            prefix='backbone')
        model = dict(model, backbone=dict(model['backbone'], init_cfg=start))
    rate = SCRATCH if network.checkpoint is None else TUNED
    warmup = min(max(1, epochs // 20), epochs - 1)  # none of a single epoch
    return format_code('\n'.join([
        HEADER,
        "_base_ = ['data.py', 'mmpretrain::_base_/default_runtime.py']",
        f'model = {to_code(model)}', 'optim_wrapper = ' + to_code(
            dict(optimizer=dict(type='AdamW', lr=rate, weight_decay=0.05))),
        'param_scheduler = ' + to_code([
            dict(
                type='LinearLR',
                start_factor=0.01,
                end=warmup,
                convert_to_iter_based=True),
            dict(
                type='CosineAnnealingLR',
                begin=warmup,
                end=epochs,
                T_max=max(1, epochs - warmup),
                convert_to_iter_based=True)
        ][0 if warmup else 1:]),
        f'train_cfg = dict(by_epoch=True, max_epochs={epochs})',
        'val_cfg = test_cfg = dict()',
        'default_hooks = dict(logger=dict(interval=20), '
        'checkpoint=dict(interval=1, max_keep_ckpts=2))',
        f'randomness = dict(seed={seed})', ''
    ]))


def teacher_text(network: Network) -> str:
    """The config of a teacher that need not be trained."""
    return format_code('\n'.join([
        HEADER, BASES, f'model = {to_code(network.model)}',
        f'data_preprocessor = {to_code(network.preprocessor)}', ''
    ]))


def scales_that_fit(network: Network, image_size: int) -> Tuple[int, ...]:
    """The paper's scales, without those that the last map is too small for.

    Args:
        network (Network): A network whose backbone yields maps.
        image_size (int): Height and width of the images.
    """
    model = MODELS.build(copy.deepcopy(network.model)).eval()
    with torch.no_grad():
        found = model.backbone(torch.zeros(1, 3, image_size, image_size))
    last = found[-1] if isinstance(found, (tuple, list)) else found
    if last.ndim != 4:
        return SCALES
    return tuple(scale for scale in SCALES if scale <= min(last.shape[2:]))


def epochs_of(path: Path) -> int:
    """The length of a run, as its config says now."""
    return Config.fromfile(path).train_cfg.max_epochs
