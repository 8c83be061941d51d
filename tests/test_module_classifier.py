# Copyright (c) sdd_mm contributors. All rights reserved.
"""Plain modules, torchvision's and one's own, as students and teachers."""
import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmrazor.registry import MODELS
from torch import nn
from toy import PREPROCESSOR, algorithm, batch, classifier, losses, sdd_loss

from sdd_mm.models.classifiers.module_classifier import ModuleClassifierError
from sdd_mm.models.recorders import FeatureHeadError

ROOT = Path(__file__).resolve().parents[1]
NET = '''
from torch import nn


class Net(nn.Module):

    def __init__(self, width=8, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.pool(self.body(self.stem(x))).flatten(1))
'''
TORCHVISION = dict(
    type='ModuleClassifier',
    num_classes=10,
    module=dict(type='torchvision.models.resnet18', num_classes=10))
CELLS = dict(
    feature_head=dict(
        type='FeatureHead',
        pooling='backbone.net.avgpool',
        head='backbone.net.fc'))


def build(config=TORCHVISION):
    return PRETRAIN_MODELS.build(copy.deepcopy(config))


def distillation(loss, teacher=None, student=None, **kwargs):
    teacher = dict(
        teacher or classifier(width=8), data_preprocessor=dict(PREPROCESSOR))
    return MODELS.build(
        algorithm(
            architecture=student or classifier(),
            teacher=teacher,
            distiller=dict(
                type='SDDDistiller',
                distill_losses=dict(loss_own=loss),
                **kwargs)))


KD = dict(type='LogitLoss', criterion=dict(type='KDCriterion'))


def test_its_state_dict_is_the_modules():
    model, plain = build(), torchvision.models.resnet18(num_classes=10)
    assert set(model.state_dict()) == set(plain.state_dict())
    assert set(get_state_dict(model)) == set(plain.state_dict())
    model.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    for network in (model, plain):
        network.eval()
    assert torch.equal(model(images), plain(images))
    found = build()
    load_state_dict(found, plain.state_dict(), strict=True)
    for name, value in found.backbone.net.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])
    result = model.predict(images)
    assert result[0].pred_score.sum().item() == pytest.approx(1)


@pytest.mark.parametrize('order', [('backbone', 'fc'), ('fc', 'backbone')])
def test_names_that_are_also_those_of_a_part_stay_apart(order):
    """backbone.net.fc of the module itself, and its fc."""
    part = nn.Module()
    part.net = nn.Module()
    part.net.fc = nn.Linear(3, 10)
    own = nn.Module()
    for name in order:
        setattr(own, name, dict(backbone=part, fc=nn.Linear(3, 10))[name])
    model = build(dict(TORCHVISION, module=own))
    saved = model.state_dict()
    assert saved.keys() == own.state_dict().keys() and len(saved) == 4
    for name, value in own.state_dict().items():
        assert torch.equal(saved[name], value), name
    given = {name: torch.randn_like(value) for name, value in saved.items()}
    model.load_state_dict(given)
    for name, value in model.plain_module.state_dict().items():
        assert torch.equal(given[name], value), name


@pytest.mark.parametrize('role', ['teacher', 'student'])
def test_kd_of_its_logits(role):
    torch.manual_seed(0)
    model = distillation(KD, **{role: TORCHVISION})
    model.init_weights()
    found = losses(model)
    assert found['distill.loss_own'] > 0
    sum(found.values()).backward()
    assert all(p.grad is not None for p in model.student.parameters())
    model.load_state_dict(model.state_dict(), strict=True)
    keys = {name.removeprefix('architecture.') for name in model.state_dict()}
    if role == 'student':
        assert 'layer1.0.conv1.weight' in keys


def test_cells_of_named_modules_are_exact():
    torch.manual_seed(0)
    with pytest.raises(
            FeatureHeadError, match="pooling='backbone.net.avgpool'"):
        distillation(sdd_loss(), TORCHVISION)
    model = distillation(
        sdd_loss(scales=(1, 2)), TORCHVISION, teacher_recorders=CELLS)
    model.init_weights()
    found = losses(model, batch(size=64))
    assert found['distill.loss_own'] > 0
    recorder = model.distiller.teacher_recorders.recorders['feature_head']
    assert recorder.difference < 1e-5


class Behind(nn.Module):
    """A network that changes what its classifier returns."""

    def __init__(self, behind):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 10)
        self.other = nn.Linear(8, 10)
        self.behind = behind

    def forward(self, images):
        if self.behind == 'two views':
            images = torch.cat([images, images.flip(-1)])
        pooled = self.pool(self.conv(images)).flatten(1)
        logits, other = self.fc(pooled), self.other(pooled)
        if self.behind == 'two views':
            return logits.unflatten(0, (2, -1)).mean(0)
        return {
            'nothing': logits,
            'temperature': logits / 0.07,
            'softmax': logits.softmax(1),
            'second head': (logits + other) / 2,
        }[self.behind]


@pytest.mark.parametrize('role', ['teacher', 'student'])
@pytest.mark.parametrize('recorder', [
    dict(type='FeatureHead', head='backbone.net.fc'),
    dict(type='RegionHead', tail=('backbone.net.fc', )),
])
@pytest.mark.parametrize(
    'behind',
    ['nothing', 'temperature', 'softmax', 'second head', 'two views'])
def test_what_follows_the_named_classifier_is_noticed(role, recorder, behind):
    torch.manual_seed(0)
    config = dict(
        type='ModuleClassifier', num_classes=10, module=Behind(behind))
    cells = dict(feature_head=dict(recorder, pooling='backbone.net.pool'))
    model = distillation(
        sdd_loss(scales=(1, 2)), **{
            role: config,
            f'{role}_recorders': cells
        })
    model.init_weights()
    if behind == 'nothing':
        assert losses(model)['distill.loss_own'] > 0
        return
    with pytest.raises(
            FeatureHeadError,
            match="model's own logits by|the model itself returns"):
        losses(model)


@pytest.mark.parametrize('tail', [
    ['backbone.net.classifier.0', 'backbone.net.classifier.2'],
    ['backbone.net.classifier'],
])
def test_a_tail_of_named_modules_in_region_mode(tail):
    torch.manual_seed(0)
    module = dict(type='torchvision.models.convnext_tiny', num_classes=10)
    config = dict(TORCHVISION, module=module)
    cells = dict(type='RegionHead', pooling='backbone.net.avgpool')
    images = batch(size=64)
    with pytest.raises(FeatureHeadError, match='Name it: tail, with'):
        distillation(
            sdd_loss(), config, teacher_recorders=dict(feature_head=cells))
    cells = dict(feature_head=dict(cells, tail=tail))
    model = distillation(
        sdd_loss(scales=(1, 2)), config, teacher_recorders=cells)
    model.init_weights()
    assert losses(model, images)['distill.loss_own'] > 0
    recorder = model.distiller.teacher_recorders.recorders['feature_head']
    assert recorder.difference < 1e-5
    net = model.teacher.backbone.net
    inputs = torch.rand(2, 3, 64, 64)
    with torch.no_grad(), recorder:
        own = model.teacher(inputs)
    found = recorder.get_record_data().local_logits((1, 2), 'direct')
    with torch.no_grad():  # of the cell that is at the bottom right
        cell = net.features(inputs)[:, :, 1:, 1:].mean((2, 3), keepdim=True)
        torch.testing.assert_close(found[4], net.classifier(cell))
    torch.testing.assert_close(found[0], own)
    # without the norm
    cells['feature_head'].update(tail=['backbone.net.classifier.2'])
    model = distillation(sdd_loss(), config, teacher_recorders=cells)
    with pytest.raises(FeatureHeadError, match='differs from the model'):
        losses(model, images)
    cells['feature_head'].pop('pooling')
    with pytest.raises(FeatureHeadError, match='not what is pooled'):
        distillation(sdd_loss(), config, teacher_recorders=cells)


def test_a_teacher_of_torchvisions_own_file(tmp_path):
    plain = torchvision.models.resnet18(num_classes=10)
    torch.save(plain.state_dict(), tmp_path / 'resnet18.pth')
    config = algorithm(
        teacher=dict(TORCHVISION, data_preprocessor=dict(PREPROCESSOR)),
        teacher_ckpt=str(tmp_path / 'resnet18.pth'),
        allow_untrained_teacher=False,
        distiller=dict(type='SDDDistiller', distill_losses=dict(loss_own=KD)))
    model = MODELS.build(config)
    model.init_weights()
    for name, value in model.teacher.backbone.net.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])


def test_copies_and_checkpoints_of_a_student():
    model = distillation(KD, student=TORCHVISION)
    model.init_weights()
    copied = ExponentialMovingAverage(model).module
    assert list(copied.state_dict()) == list(model.state_dict())
    other = distillation(KD, student=TORCHVISION)
    assert not other.load_state_dict(model.state_dict()).missing_keys
    images = torch.rand(2, 3, 32, 32)
    for one in (model, copied, other):
        one.eval()
    assert torch.equal(model(images), copied(images))
    assert torch.equal(model(images), other(images))


@pytest.mark.parametrize('given, message', [
    (dict(module=dict(type='no.such.Net')),
     "no.such.Net': there is no Python module 'no' in "),
    (dict(module=dict(type='torchvision.models.resnet18', wrong=1)),
     "resnet18' cannot be built with the other keys of module"),
    (dict(module='Net'), 'must be an nn.Module, got a str'),
])
def test_what_is_no_module_is_refused(given, message):
    with pytest.raises(ModuleClassifierError, match=message):
        build(dict(TORCHVISION, **given))


@pytest.mark.parametrize('module, message', [
    (nn.Flatten(), r'Flatten returns a tensor of shape \(2, 3072\) for 2 '),
    (nn.Conv2d(3, 10, 3), r'Conv2d returns .*, not logits \(B, 10\)'),
])
def test_what_returns_no_logits_is_refused(module, message):
    model = build(dict(TORCHVISION, module=module))
    with pytest.raises(ModuleClassifierError, match=message):
        model(torch.rand(2, 3, 32, 32))


def test_from_training_to_the_plain_module(tmp_path):
    """A network of one's own, distilled, exported, and loaded without us."""
    (tmp_path / 'mine.py').write_text(NET)
    (tmp_path / 'kd.py').write_text(f'''
_base_ = ["{ROOT}/configs/demo/sd-kd.py"]
student = dict(type='ModuleClassifier', num_classes=10,
               module=dict(type='mine.Net', width=8))
model = dict(
    architecture=dict(_delete_=True, _scope_='mmpretrain', **student),
    teacher_ckpt=None, allow_untrained_teacher=True,
    distiller=dict(student_recorders=dict(feature_head=dict(
        type='FeatureHead', pooling='backbone.net.pool',
        head='backbone.net.fc'))))
train_dataloader = dict(dataset=dict(num_scenes=128))
val_dataloader = dict(dataset=dict(num_scenes=50))
train_cfg = dict(max_epochs=1)
param_scheduler = dict(total_steps=1)
''')
    environ = dict(os.environ, PYTHONPATH=f'{tmp_path}:{ROOT}')

    def run(*command):
        result = subprocess.run([sys.executable, *map(str, command)],
                                env=environ,
                                cwd=tmp_path,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT,
                                text=True)
        assert result.returncode == 0, result.stdout
        return result.stdout

    said = run(ROOT / 'tools' / 'train.py', 'kd.py', '--work-dir', 'run')
    assert 'student: map 16 x 16 of 8 channels' in said
    run(ROOT / 'tools' / 'model_converters' / 'export_student.py',
        'run/epoch_1.pth', 'student.pth', '--onnx')
    space = {}
    exec(NET, space)
    plain = space['Net'](width=8)
    content = torch.load(tmp_path / 'student.pth')['state_dict']
    plain.load_state_dict(content)
    weights = torch.load(tmp_path / 'run' / 'epoch_1.pth')['state_dict']
    for name, value in plain.state_dict().items():
        assert torch.equal(value, weights[f'architecture.{name}'])
    assert (tmp_path / 'student.onnx').is_file()
