# Copyright (c) sdd_mm contributors. All rights reserved.
"""A smoke run fails neither because of hooks that begin late nor of images."""
import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, TRANSFORMS

from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.smoke import to_smoke

DEMO = Path(__file__).resolve().parents[2] / 'configs' / 'demo'


@HOOKS.register_module(force=True)
class LateHook(Hook):
    """Objects to a run that is too short for it."""

    def __init__(self, start):
        self.start = start

    def before_train(self, runner):
        assert self.start <= runner.max_epochs
        assert 1000 * self.start <= runner.max_iters


HOOK_CONFIGS = [
    (dict(type='EMAHook', begin_epoch=3), 'EMAHook has begin_epoch=0 instead'),
    (dict(type='EMAHook', begin_iter=5000), 'EMAHook has begin_iter=0 instea'),
    (dict(type='mmpretrain.EMAHook', begin_epoch=3), 'EMAHook has begin_epo'),
    (dict(
        type='SwitchRecipeHook',
        schedule=[
            dict(
                action_epoch=1,
                train_pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='PackInputs')
                ]),
            dict(action_epoch=30, batch_augments=None)
        ]), 'SwitchRecipeHook does not act (schedule.1.action_epoch=30)'),
    (dict(type='EarlyStoppingHook', monitor='accuracy/top1'), ''),
    (dict(type='mmrazor.StopDistillHook',
          stop_epoch=10), 'StopDistillHook does not act (stop_epoch=10)'),
    (dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20), ''),
    (dict(type='PreciseBNHook', num_samples=8,
          interval=10), 'PreciseBNHook has interval=1 instead of 10'),
    (dict(type='ProfilerHook', by_epoch=False,
          profile_times=50), 'ProfilerHook has profile_times=2 instead of 50'),
    (dict(type='LateHook', start=40), ''),
]
SCHEDULERS = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5000),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=5000),
    dict(type='MultiStepLR', milestones=[3], begin=3, end=12),
    dict(type='CosineAnnealingLR', begin=5, convert_to_iter_based=True),
]


@pytest.mark.parametrize('by_epoch', [True, False])
def test_hooks_and_schedules_that_begin_late(tmp_path, by_epoch):
    cfg = Config.fromfile(DEMO / 'sd-kd.py')
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.update(batch_size=4, num_workers=0)
    cfg.custom_hooks = [copy.deepcopy(hook) for hook, _ in HOOK_CONFIGS]
    if by_epoch:
        cfg.param_scheduler = SCHEDULERS
    else:
        cfg.custom_hooks.pop()  # it counts epochs, there are none
        cfg.param_scheduler = SCHEDULERS[:1]
        cfg.train_cfg = dict(by_epoch=False, max_iters=90000)
    note = to_smoke(cfg, 2)
    for _, message in HOOK_CONFIGS:
        assert message in note, note
    check_training(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    assert runner.message_hub.get_info('eta') == 0


def test_a_hook_among_the_default_hooks_begins_at_once(tmp_path):
    cfg = Config.fromfile(DEMO / 'sd-kd.py')
    cfg.work_dir = str(tmp_path)
    cfg.default_hooks.ema = dict(type='EMAHook', begin_epoch=3)
    assert 'EMAHook has begin_epoch=0 instead of 3' in to_smoke(cfg, 1)
    assert cfg.default_hooks.ema.begin_epoch == 0


@TRANSFORMS.register_module()
class LoadFourChannels(BaseTransform):
    """A loader of somebody's own."""

    def transform(self, results):
        image = cv2.imread(results['img_path'])
        image = np.concatenate([image, image[..., :1]], 2).astype('float32')
        results.update(
            img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


def images_of(cfg):
    """What a smoke run of a config trains with."""
    cfg = Config(cfg)
    to_smoke(cfg, 2)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return dataset.get_data_info(0)['img'], dataset[0]['inputs']


def own_config(dataset, **backbone):
    return dict(
        work_dir='none',
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, **backbone),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=512)),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        train_dataloader=dict(batch_size=2, dataset=dataset))


def test_images_are_as_ones_own_loader_gives_them(tmp_path):
    for name in 'ab':
        (tmp_path / name).mkdir()
        cv2.imwrite(
            str(tmp_path / name / '1.png'), np.zeros((20, 24, 3), 'uint8'))
    img, inputs = images_of(
        own_config(
            dict(
                type='CustomDataset',
                data_root=str(tmp_path),
                pipeline=[
                    dict(type='LoadFourChannels'),
                    dict(type='Resize', scale=(16, 12)),
                    dict(type='PackInputs')
                ]),
            in_channels=4))
    assert img.shape == (20, 24, 4) and img.dtype == 'float32'
    assert inputs.shape == (4, 12, 16)


def test_absent_arrays_have_the_channels_of_the_network():
    img, inputs = images_of(
        own_config(
            dict(
                type='MNIST',
                data_root='/nowhere',
                split='train',
                pipeline=[dict(type='PackInputs')]),
            in_channels=1))
    assert img.shape == (32, 32, 1) and inputs.shape == (1, 32, 32)
