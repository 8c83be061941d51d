# Copyright (c) sdd_mm contributors. All rights reserved.
"""Configs that import the classes they use, in MMEngine's new style."""
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from sdd_mm.config_builder import ConfigBuilderError, make_config
from sdd_mm.config_file import is_new_style, load_config, named
from sdd_mm.engine.preflight import check_training

DEMO = Path(__file__).resolve().parents[1] / 'configs' / 'demo'
NEW = '''
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import (GlobalAveragePooling, ImageClassifier,
                               LinearClsHead)
from mmpretrain.models.losses import CrossEntropyLoss
from torch.optim import SGD

from sdd_mm.datasets import DigitScenes
from sdd_mm.models.backbones import CIFARResNet

default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[64.] * 3, std=[64.] * 3, num_classes=10)
model = dict(
    type=ImageClassifier,
    backbone=dict(type=CIFARResNet, depth=8),
    neck=dict(type=GlobalAveragePooling),
    head=dict(
        type=LinearClsHead, num_classes=10, in_channels=64,
        loss=dict(type=CrossEntropyLoss), topk=(1, )))
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(
        type=DigitScenes, split='train', num_scenes=64,
        pipeline=[dict(type=PackInputs)]),
    sampler=dict(type=DefaultSampler, shuffle=True))
val_dataloader = dict(train_dataloader)
val_evaluator = dict(type=Accuracy, topk=(1, ))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.01))
'''


@pytest.fixture
def new(tmp_path):
    path = tmp_path / 'new.py'
    path.write_text(NEW)
    return path


def test_types_become_names(new):
    cfg = load_config(new)
    kinds = [
        cfg.model.type, cfg.model.backbone.type, cfg.model.head.loss.type,
        cfg.train_dataloader.dataset.type,
        cfg.train_dataloader.dataset.pipeline[0].type,
        cfg.train_dataloader.sampler.type, cfg.optim_wrapper.optimizer.type
    ]
    assert kinds == [
        'mmpretrain.ImageClassifier', 'CIFARResNet',
        'mmpretrain.CrossEntropyLoss', 'DigitScenes', 'mmpretrain.PackInputs',
        'mmengine.DefaultSampler', 'SGD'
    ]
    # what a checkpoint holds of it
    dumped = Config.fromstring(Config.fromfile(new).pretty_text, '.py')
    assert named(dumped).model == cfg.model
    assert cfg.model.head.topk == (1, ) and cfg.filename == str(new)


def test_it_trains(new, tmp_path):
    cfg = load_config(new)
    cfg.work_dir = str(tmp_path / 'run')
    check_training(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 4 and (tmp_path / 'run' / 'epoch_1.pth').is_file()
    value = runner.message_hub.get_scalar('val/accuracy/top1').current()
    assert 0 <= value <= 100


def test_configs_of_names_are_as_they_are():
    cfg = Config.fromfile(DEMO / 'sd-kd.py')
    assert named(cfg) is cfg and not is_new_style(DEMO / 'sd-kd.py')


def test_a_function_beside_names_stays_a_path():
    """Two dots are no sign of a config that imports its classes."""
    path = 'torchvision.models.resnet18'
    cfg = Config(
        dict(model=dict(type='ModuleClassifier', module=dict(type=path))))
    assert named(cfg).to_dict() == cfg.to_dict()


def test_no_config_can_inherit_from_it(new, tmp_path):
    with pytest.raises(
            ConfigBuilderError, match='imports the classes it uses'):
        make_config(
            tmp_path / 'out.py',
            student=str(new),
            teacher=str(DEMO / 'teacher.py'),
            method='sd-kd')
    assert not (tmp_path / 'out.py').exists()
