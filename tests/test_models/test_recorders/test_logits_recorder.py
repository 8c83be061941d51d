# Copyright (c) sdd_mm contributors. All rights reserved.
"""Any classifier distills by its logits alone."""
import copy
from pathlib import Path

import commands
import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmpretrain.registry import DATASETS
from mmrazor.registry import MODELS
from toy import (PREPROCESSOR, algorithm, batch, build, classifier, losses,
                 sdd_loss)

from sdd_mm import FeatureHead, LocalLogits
from sdd_mm.functional import dkd_loss, kd_loss, nkd_loss
from sdd_mm.models.recorders import (FeatureHeadError, FeatureHeadRecorder,
                                     LogitsRecorder)
from sdd_mm.teacher_cache import TeacherCache

ROOT = Path(__file__).resolve().parents[3]
VIT = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
        img_size=32,
        patch_size=8),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=16,
        loss=dict(type='CrossEntropyLoss')))
VGG = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=11, num_classes=10),
    head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss')))
TIMM = dict(
    type='TimmClassifier',
    model_name='test_vit2',
    img_size=32,
    num_classes=10,
    loss=dict(type='CrossEntropyLoss'))
NETWORKS = dict(vit=VIT, vgg=VGG, timm=TIMM)
SIZES = dict(vgg=224)
ROWS = dict(
    KDCriterion=lambda s, t, y: kd_loss(s, t, tau=4.),
    DKDCriterion=lambda s, t, y: dkd_loss(s, t, y, 1., 8., 4.),
    NKDCriterion=lambda s, t, y: nkd_loss(s, t, y, 1.5, 1.))


def logits_only(criterion='KDCriterion', **kwargs):
    kwargs['teacher'] = dict(
        kwargs.get('teacher', classifier(width=8)),
        data_preprocessor=copy.deepcopy(PREPROCESSOR))
    return algorithm(
        distiller=dict(
            type='SDDDistiller',
            distill_losses=dict(
                loss_kd=dict(type='LogitLoss', criterion=dict(
                    type=criterion)))),
        **kwargs)


def ready(name):
    if name == 'timm':
        pytest.importorskip('timm', reason='needs timm: pip install timm')
    return copy.deepcopy(NETWORKS[name])


@pytest.mark.parametrize('criterion', ROWS)
@pytest.mark.parametrize('name', ['vit', 'timm'])
@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_the_loss_is_that_of_the_networks_own_logits(name, role, criterion):
    given = {dict(student='architecture').get(role, role): ready(name)}
    torch.manual_seed(0)
    model = MODELS.build(logits_only(criterion, **given))
    model.init_weights()
    model.student.eval()  # drop path and dropout are off, as in the teacher
    data = model.data_preprocessor(batch(), training=True)
    found = model(**data, mode='loss')
    labels = torch.cat([s.gt_label for s in data['data_samples']])
    with torch.no_grad():
        own = [
            network(data['inputs'], mode='tensor')
            for network in (model.student, model.teacher)
        ]
    wanted = ROWS[criterion](*own, labels).mean()
    torch.testing.assert_close(found['distill.loss_kd'], wanted)
    sum(value for key, value in found.items() if 'loss' in key).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0
               for p in model.student.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_networks_whose_classifier_is_inside_the_backbone():
    model = MODELS.build(logits_only(teacher=ready('vgg')))
    model.init_weights()
    found = losses(model, batch(2, size=224))
    assert found['distill.loss_kd'] > 0


def recorder_of(model, role):
    return getattr(model.distiller,
                   f'{role}_recorders').recorders['feature_head']


def test_networks_with_a_map_keep_their_recorder():
    model = MODELS.build(logits_only(teacher=ready('vit')))
    assert type(recorder_of(model, 'student')) is FeatureHeadRecorder
    assert type(recorder_of(model, 'teacher')) is LogitsRecorder
    model.init_weights()
    kept = []
    model.distiller.reset_records = lambda: kept.extend(
        recorder_of(model, role).get_record_data()
        for role in ('student', 'teacher'))
    losses(model)
    assert [type(one) for one in kept] == [FeatureHead, LocalLogits]


@pytest.mark.parametrize('name', ['vit', 'timm'])
def test_cells_are_refused_with_the_way_out(name):
    teacher = dict(ready(name), data_preprocessor=dict(PREPROCESSOR))
    with pytest.raises(
            FeatureHeadError, match="no local logits.*type='LogitLoss'"):
        build(teacher=teacher)
    with pytest.raises(FeatureHeadError, match='LogitLoss'):
        config = logits_only(teacher=ready(name))
        config['distiller']['distill_losses']['loss_sdd'] = sdd_loss()
        MODELS.build(config)


def test_a_multi_label_head_is_refused():
    teacher = classifier(
        head=dict(
            type='MultiLabelLinearClsHead', num_classes=10, in_channels=16))
    with pytest.raises(FeatureHeadError, match='is multi-label') as found:
        MODELS.build(logits_only(teacher=teacher))
    assert 'LogitLoss' not in str(found.value)


def test_what_is_no_logits_is_refused():
    config = logits_only(teacher=ready('vit'))
    config['distiller']['teacher_recorders'] = dict(
        feature_head=dict(type='Logits', source='backbone.patch_embed'))
    model = MODELS.build(config)
    model.init_weights()
    with pytest.raises(
            FeatureHeadError,
            match='teacher ImageClassifier: the output of '
            'backbone.patch_embed is tuple, not logits'):
        losses(model)
    config['distiller']['teacher_recorders']['feature_head'][
        'source'] = 'no.such'
    with pytest.raises(FeatureHeadError, match='no module .no.such'):
        MODELS.build(config)


def test_probabilities_are_refused():
    """Their softmax is another distribution: a loss that is quietly wrong."""
    net = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(3, 10), torch.nn.Softmax(1))
    teacher = dict(type='ModuleClassifier', module=net, num_classes=10)
    config = logits_only(teacher=teacher)
    with pytest.raises(
            FeatureHeadError,
            match='teacher ModuleClassifier: .* sum to 1, .* probabilities '
            '.*model.distiller.teacher_recorders'):
        losses(MODELS.build(config))
    config['distiller']['teacher_recorders'] = dict(
        feature_head=dict(type='Logits', source='backbone.net.2'))
    assert losses(MODELS.build(config))['distill.loss_kd'] > 0


def test_copies_and_the_cache():
    torch.manual_seed(0)
    model = MODELS.build(logits_only(teacher=ready('vit')))
    model.init_weights()
    wanted = losses(model)['distill.loss_kd']
    copied = ExponentialMovingAverage(model).module
    torch.testing.assert_close(losses(copied)['distill.loss_kd'], wanted)
    images = DATASETS.build(
        dict(
            type='InMemoryDataset',
            dataset=dict(
                type='DigitScenes',
                split='train',
                num_scenes=8,
                pipeline=[dict(type='PackInputs')])))
    data = model.data_preprocessor(images.batch(range(8), [0] * 8), True)
    state = copy.deepcopy(model.state_dict())
    live = model(**data, mode='loss')
    model.load_state_dict(state)
    model.teacher_source = TeacherCache(model, images)
    for _ in range(2):
        model.load_state_dict(state)
        cached = model(**data, mode='loss')
        torch.testing.assert_close(
            cached['distill.loss_kd'],
            live['distill.loss_kd'],
            rtol=1e-2,
            atol=1e-5)


def test_a_training(tmp_path):
    config = tmp_path / 'vit.py'
    teacher = dict(VIT, data_preprocessor=dict(PREPROCESSOR))
    teacher['data_preprocessor'].update(mean=[64.] * 3, std=[64.] * 3)
    config.write_text(
        f'_base_ = ["{ROOT}/configs/demo/kd.py"]\n'
        f'model = dict(teacher=dict(_delete_=True, **{teacher!r}),\n'
        '    teacher_ckpt=None, allow_untrained_teacher=True,\n'
        '    on_normalization_mismatch="convert")\n')
    result = commands.run(ROOT / 'tools' / 'train.py', config, '--smoke', '3',
                          '--work-dir', tmp_path / 'run')
    assert result.returncode == 0, result.stdout
    assert 'distill.loss_kd' in result.stdout
