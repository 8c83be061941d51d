# Copyright (c) sdd_mm contributors. All rights reserved.
"""Trying a config and a machine before having the data."""
import os
import os.path as osp
from urllib.parse import urlparse

import torch
from mmengine.config import Config

from ..images import LOADERS, innermost, loads_files, loads_grey
from .errors import PreflightError

FILE_SIZE, ARRAY_SIZE = (256, 320), (32, 32)


def to_smoke(cfg: Config, iterations: int) -> str:
    """Turn a training config into a smoke run, in place.

    The model, batch size, pipeline, optimizer and hooks stay the config's;
    the images are generated, in the config's shape and class count. Nothing
    is validated and no checkpoint is written. A teacher whose checkpoint is
    absent stays untrained.

    Args:
        cfg (Config): A training config, with ``work_dir``.
        iterations (int): Number of training iterations.

    Returns:
        str: What to tell the user.

    Raises:
        PreflightError: If the config does not say how many classes there are.
    """
    notes = [f'SMOKE RUN: {iterations} iterations on generated images.']
    loader = cfg.train_dataloader
    pipeline = innermost(loader.dataset)['pipeline']
    from_file = loads_files(loader)
    # the processes of a launcher that has not been joined yet
    world = int(
        os.environ.get('WORLD_SIZE') or os.environ.get('SLURM_NTASKS') or 1)
    generated = dict(
        type='GeneratedImages',
        num_images=iterations * loader.batch_size * world,
        num_classes=num_classes(cfg),
        image_size=FILE_SIZE if from_file else ARRAY_SIZE,
        grey=loads_grey(loader),
        pipeline=[step for step in pipeline if step['type'] not in LOADERS])
    if loader.dataset['type'].split('.')[-1] == 'InMemoryDataset':
        loader.dataset.dataset = generated
    else:
        loader.dataset = generated
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = iterations
    else:
        cfg.train_cfg.max_epochs = 1
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    # MMEngine refuses one that would begin after the end
    cfg.param_scheduler = [
        one for one in schedulers if one.get('begin', 0) < (
            1 if one.get('by_epoch', True) else iterations)
    ]
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator', 'test_cfg',
                'test_dataloader', 'test_evaluator'):
        cfg[key] = None
    hooks = cfg.setdefault('default_hooks', dict())
    hooks.update(checkpoint=None, logger=dict(type='LoggerHook', interval=1))
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'TeacherCacheHook':
            hook['cache_dir'] = None
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    cfg.resume, cfg.load_from = False, None
    cfg.work_dir = osp.join(cfg.work_dir, 'smoke')
    checkpoint = cfg.model.get('teacher_ckpt')
    if 'teacher' in cfg.model and not _at_hand(checkpoint):
        cfg.model.teacher_ckpt = None
        cfg.model.allow_untrained_teacher = True
        notes.append(f'UNTRAINED TEACHER: {checkpoint} is not at hand.')
    notes.append('The losses mean nothing and nothing is saved.')
    return ' '.join(notes)


def num_classes(cfg: Config) -> int:
    """The number of classes that a training config states."""
    student = cfg.model.get('architecture', cfg.model)
    count = (student.get('head')
             or {}).get('num_classes') or (cfg.get('data_preprocessor')
                                           or {}).get('num_classes')
    if count is None:
        raise PreflightError(
            'the config does not say how many classes there are:'
            ' set data_preprocessor.num_classes')
    return count


def _at_hand(checkpoint) -> bool:
    """Whether a checkpoint can be loaded without a download."""
    if checkpoint is None:
        return False
    if '://' in checkpoint:
        checkpoint = osp.join(torch.hub.get_dir(), 'checkpoints',
                              osp.basename(urlparse(checkpoint).path))
    return osp.isfile(checkpoint)
