# Copyright (c) sdd_mm contributors. All rights reserved.
"""Try a config and a machine without the data."""
import os
import os.path as osp
from typing import Any, Iterator
from urllib.parse import urlparse

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..images import LOADERS, loads_files, preprocessor_of, student_arguments
from ..loaded_image import loaded_image
from .errors import PreflightError
from .preflight.values import items

FILE_SIZE, ARRAY_SIZE = (256, 320), (32, 32)
# epochs: so many that no hook and no schedule finds the run too short for it;
# MMEngine's loops let StopHook stop them
FOREVER = 10**6


@HOOKS.register_module()
class StopHook(Hook):
    """Ends training after a number of iterations.

    Hooks and schedulers still see the length that ``train_cfg`` states, so
    those that begin later do not object.

    Args:
        iterations (int): Number of iterations. An epoch-based loop goes on
            to the end of the epoch.
    """

    priority = 55  # after IterTimerHook, before LoggerHook

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Stop, and correct the estimated time that is left."""
        done = runner.iter + 1
        if done >= self.iterations:
            runner.train_loop.stop_training = True
        hub = runner.message_hub
        left = (self.iterations - done) / max(runner.max_iters - done, 1)
        hub.update_info('eta', left * hub.get_info('eta', 0))


def to_smoke(cfg: Config, iterations: int) -> str:
    """Turn a training config into a smoke run, in place.

    The run keeps its model, batch size, pipeline, optimizer and hooks. Images
    of the config's shape and class count are generated. Nothing is validated
    and no checkpoint is written. A teacher whose checkpoint is absent stays
    untrained. Known hooks that begin at a later epoch or iteration begin at
    once.

    Args:
        cfg (Config): A training config, with ``work_dir``.
        iterations (int): Number of training iterations.

    Returns:
        str: What to tell the user.

    Raises:
        PreflightError: If the config does not say how many classes there are,
            or if the model takes clips.
    """
    if 'cls_head' in cfg.model.get('architecture', cfg.model):
        raise PreflightError(
            'a smoke run generates images, not clips: remove --smoke, and try '
            'a recognizer by `python -m sdd_mm.doctor CONFIG`')
    notes = [f'SMOKE RUN: {iterations} iterations on generated images.']
    loader = cfg.train_dataloader
    image = loaded_image(cfg, loader,
                         FILE_SIZE if loads_files(loader) else ARRAY_SIZE)
    # the processes of a launcher that has not been joined yet
    world = int(
        os.environ.get('WORLD_SIZE') or os.environ.get('SLURM_NTASKS') or 1)
    count = iterations * loader.batch_size * world
    distiller = cfg.model.get('distiller') or {}
    for loss in (distiller.get('distill_losses') or {}).values():
        # a loss with a memory of every image has no more
        count = min(count, loss.get('num_data', count))
    generated = dict(
        type='GeneratedImages',
        num_images=count,
        num_classes=num_classes(cfg),
        image_size=image.size,
        channels=image.channels,
        dtype=str(image.dtype),
        **_without_teacher_files(cfg, image.rest))
    if loader.dataset['type'].split('.')[-1] == 'InMemoryDataset':
        loader.dataset.dataset = generated
    else:
        loader.dataset = generated
    length = cfg.train_cfg
    name = 'BasedTrainLoop'  # Epoch or Iter
    stops = str(length.get('type', name)).endswith(name)
    if 'max_iters' in length:
        length.max_iters = max(length.max_iters * stops, iterations)
    else:
        length.max_epochs = FOREVER if stops else 1
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator', 'test_cfg',
                'test_dataloader', 'test_evaluator'):
        cfg[key] = None
    hooks = cfg.setdefault('default_hooks', dict())
    hooks.update(checkpoint=None, logger=dict(type='LoggerHook', interval=1))
    custom = list(cfg.get('custom_hooks') or [])
    notes += [
        note for hook in (*hooks.values(), *custom) if hook
        for note in _bring_forward(hook, iterations)
    ]
    custom.append(dict(type='StopHook', iterations=iterations))
    cfg.custom_hooks = custom
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    cfg.resume, cfg.load_from = False, None
    cfg.work_dir = osp.join(cfg.work_dir, 'smoke')
    checkpoint = cfg.model.get('teacher_ckpt')
    if 'teacher' in cfg.model and not _at_hand(checkpoint):
        cfg.model.teacher_ckpt = None
        cfg.model.allow_untrained_teacher = True
        why = f'there is no {checkpoint}' if checkpoint else (
            'model.teacher_ckpt is None')
        notes.append(f'UNTRAINED TEACHER: {why}.')
    notes.append('The losses mean nothing, and no checkpoint is saved.')
    return ' '.join(notes)


def _bring_forward(hook: Any, iterations: int) -> Iterator[str]:
    """Let a hook act within a smoke run, or say that it does not."""
    if not isinstance(hook, dict):
        return
    name = str(hook['type']).split('.')[-1]
    now = dict(begin_epoch=0, begin_iter=0, start_iters=0)
    if name == 'TeacherCacheHook':
        hook['cache_dir'] = None
    elif name == 'TrainingLabelsHook':
        hook['smoke'] = True
    elif name == 'PreciseBNHook':
        now['interval'] = 1
    elif name == 'ProfilerHook' and not hook.get('by_epoch', True):
        now['profile_times'] = min(hook.get('profile_times', 1), iterations)
    elif name == 'SwitchRecipeHook':
        for recipe in hook['schedule']:
            if 'train_pipeline' in recipe:
                recipe['train_pipeline'] = _without_loaders(
                    recipe['train_pipeline'])
    for key, value in now.items():
        if hook.get(key, value) != value:
            yield f'{name} has {key}={value} instead of {hook[key]}.'
            hook[key] = value
    late = [
        f'{key}={value}' for key, value in items(hook)
        if key.endswith('action_epoch') and value > 1
        or key == 'stop_epoch' and value > 0
    ]
    if late:
        yield f'{name} does not act ({", ".join(late)}).'


def _without_teacher_files(cfg: Config, pipeline: list) -> dict:
    """The pipeline, and the second images that it needs."""
    kinds = [str(step['type']).split('.')[-1] for step in pipeline]
    if 'PackPairedInputs' not in kinds:
        return dict(pipeline=pipeline)
    teacher = cfg.model.get('teacher', {})
    if 'teacher' in (teacher.get('views') or ()):
        teacher = teacher['teachers'][list(teacher['views']).index('teacher')]
    own = (preprocessor_of(cfg) or {}).get('teacher') or {}
    mean = (teacher.get('data_preprocessor') or own).get('mean') or [0] * 3
    backbone = teacher.get('backbone', {})
    return dict(
        pipeline=[
            step for step, kind in zip(pipeline, kinds)
            if kind != 'LoadTeacherImage'
        ],
        teacher_channels=backbone.get('in_channels', len(mean)))


def _without_loaders(pipeline: list) -> list:
    """Transforms of images that need not be loaded."""
    return [step for step in pipeline if step['type'] not in LOADERS]


def num_classes(cfg: Config) -> int:
    """The number of classes that a training config states."""
    student = cfg.model.get('architecture', cfg.model)
    count = (student.get('head')
             or {}).get('num_classes') or student_arguments(
                 cfg.get('data_preprocessor')).get('num_classes')
    if count is None:
        raise PreflightError(
            'the config does not say how many classes there are:'
            ' set data_preprocessor.num_classes')
    return count


def _at_hand(checkpoint) -> bool:
    """Whether a checkpoint loads without a download."""
    if not checkpoint or not isinstance(checkpoint, str):
        return bool(checkpoint) and all(map(_at_hand, checkpoint))
    if '://' in checkpoint:
        checkpoint = osp.join(torch.hub.get_dir(), 'checkpoints',
                              osp.basename(urlparse(checkpoint).path))
    return osp.isfile(checkpoint)
