# Copyright (c) sdd_mm contributors. All rights reserved.
import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from mmrazor.models.task_modules import RecorderManager
from torch import nn
from toy import PREPROCESSOR, batch, build, build_classifier, losses, sdd_loss

from sdd_mm.models.recorders import (FeatureHeadError, FeatureHeadRecorder,
                                     RegionHeadRecorder)

GAP = dict(type='GlobalAveragePooling')
RESNET = dict(
    type='CIFARResNet', depth=8, width=4, stem_channels=4)  # 16 x 8 x 8
LINEAR = dict(type='LinearClsHead', num_classes=10, in_channels=16)
STACKED = dict(
    type='StackedLinearClsHead',
    num_classes=10,
    in_channels=16,
    mid_channels=[12],
    dropout_rate=0.5,
    norm_cfg=dict(type='BN1d'),
    act_cfg=dict(type='HSwish'))
MODELS_WITH_TAILS = dict(
    stacked=(RESNET, GAP, STACKED),
    gem=(RESNET, dict(type='GeneralizedMeanPooling', p=3.), LINEAR),
    linear_neck=(RESNET,
                 dict(
                     type='LinearNeck',
                     in_channels=16,
                     out_channels=8,
                     gap_dim=2,
                     act_cfg=dict(type='ReLU')), dict(LINEAR, in_channels=8)),
    vig=(RESNET, GAP,
         dict(
             type='VigClsHead', num_classes=10, in_channels=16,
             hidden_dim=12)),
    convnext=(dict(
        type='ConvNeXt',
        arch=dict(depths=[1, 1], channels=[4, 16]),
        out_indices=(1, )), None, LINEAR),
)


def tailed(name, **kwargs):
    """Config of a small classifier that is not linear after pooling."""
    backbone, neck, head = copy.deepcopy(MODELS_WITH_TAILS[name])
    return dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=neck,
        head=head,
        **kwargs)


def build_tailed(name):
    torch.manual_seed(0)
    model = MODELS.build(tailed(name))
    for module in model.modules():  # statistics that are not trivial
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -.2, .2)
            nn.init.uniform_(module.running_var, .5, 2.)
    return model


def record(model, images=None, recorder=None):
    recorder = recorder or RegionHeadRecorder()
    recorder.initialize(model)
    images = torch.rand(3, 3, 32, 32) if images is None else images
    with recorder:
        logits = model(images, mode='tensor')
    return recorder.get_record_data(), logits


def literal_tail(name, model, cell):
    """What the network does with a cell (B, C, h, w), written out."""
    if name == 'gem':
        p, eps = model.neck.p, model.neck.eps
        mean = cell.clamp(min=eps).pow(p).mean((2, 3)).pow(1 / p)
        return model.head.fc(mean)
    rows = cell.mean((2, 3))
    if name == 'convnext':
        norm = model.backbone.norm1
        rows = F.layer_norm(rows, rows.shape[1:], norm.weight, norm.bias,
                            norm.eps)
        return model.head.fc(rows)
    if name == 'linear_neck':
        neck = model.neck
        return model.head.fc(F.relu(neck.norm(neck.fc(rows))))
    if name == 'vig':
        head = model.head
        return head.fc2(F.gelu(head.bn(head.fc1(rows))))
    hidden, last = model.head.layers
    return last.fc(F.hardswish(hidden.norm(hidden.fc(rows))))


@pytest.mark.parametrize('name', MODELS_WITH_TAILS)
def test_a_cell_gets_what_the_network_does_with_a_map(name):
    model = build_tailed(name).eval()
    maps = []
    source = model.backbone.stages[-1] if name == 'convnext' else (
        model.backbone)
    source.register_forward_hook(
        lambda m, i, o: maps.append(o[-1] if isinstance(o, tuple) else o))
    region, logits = record(model, torch.rand(3, 3, 64, 64))
    feature = maps[-1]
    torch.testing.assert_close(
        region.local_logits((1, ), 'direct')[0], logits, atol=1e-5, rtol=1e-5)
    cells = region.local_logits((1, 2), 'direct')
    half = feature.shape[-1] // 2
    quarters = [
        feature[:, :, rows, columns]
        for rows in (slice(None, half), slice(half, None))
        for columns in (slice(None, half), slice(half, None))
    ]
    for cell, part in zip(cells, [feature, *quarters]):
        torch.testing.assert_close(
            cell, literal_tail(name, model, part), atol=1e-5, rtol=1e-5)
    assert region.logits() is logits


@pytest.mark.parametrize('name', MODELS_WITH_TAILS)
def test_has_to_be_asked_for(name):
    with pytest.raises(FeatureHeadError, match="type='RegionHead'"):
        FeatureHeadRecorder().initialize(build_tailed(name))


@pytest.mark.parametrize('name', ['stacked', 'vig', 'linear_neck'])
def test_extra_cells_leave_batch_norm_alone(name):
    """Statistics after a distillation step are those of the student alone."""
    torch.manual_seed(1)
    model = build(
        architecture=tailed(name),
        distiller=dict(
            type='SDDDistiller',
            student_recorders=dict(feature_head=dict(type='RegionHead')),
            distill_losses=dict(loss_sdd=sdd_loss())))
    alone = copy.deepcopy(model.student).train()
    found = losses(model)
    data = model.data_preprocessor(batch(), training=True)
    alone(**data, mode='loss')
    assert found['distill.loss_sdd'] > 0
    buffers = dict(model.student.named_buffers())
    assert any(name.endswith('num_batches_tracked') for name in buffers)
    for name, value in alone.named_buffers():
        torch.testing.assert_close(buffers[name], value, rtol=0, atol=0)
        if name.endswith('num_batches_tracked'):
            assert value == 1
    assert all(module.training for module in model.student.modules())


def test_modes_are_kept_module_by_module():
    model = build_tailed('stacked').train()
    model.head.layers[0].norm.eval()  # frozen by hand
    region, _ = record(model)
    region.local_logits((1, 2))
    assert not model.head.layers[0].norm.training
    assert model.head.training and model.head.layers[0].dropout.training
    assert model.backbone.training


def test_in_training_the_logits_are_those_of_the_forward():
    model = build_tailed('stacked').train()
    region, logits = record(model)
    assert region.logits() is logits
    tail = region.local_logits((1, ), 'direct')[0]
    assert (tail - logits).abs().max() > 1e-3  # dropout, batch statistics
    again = region.local_logits((1, ), 'direct')[0]
    torch.testing.assert_close(tail, again, rtol=0, atol=0)


@pytest.mark.parametrize('name', MODELS_WITH_TAILS)
def test_gradients_reach_tail_and_backbone(name):
    model = build_tailed(name).train()
    region, _ = record(model, torch.rand(3, 3, 64, 64))
    region.local_logits((2, 4)).square().sum().backward()
    missing = [
        name for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert not missing


@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_one_role_may_be_a_region_and_the_other_linear(role):
    parts = dict(
        distiller={
            'type': 'SDDDistiller',
            f'{role}_recorders': dict(feature_head=dict(type='RegionHead')),
            'distill_losses': dict(loss_sdd=sdd_loss('DKDCriterion'))
        })
    if role == 'student':
        parts['architecture'] = tailed('convnext')
    else:
        parts['teacher'] = tailed('stacked', data_preprocessor=PREPROCESSOR)
    model = build(**parts)
    loss = losses(model, batch(size=64))['distill.loss_sdd']
    assert loss > 0
    loss.backward()


def test_numbers_decide_here_too():
    model = build_tailed('convnext').eval()
    recorder = RegionHeadRecorder(feature='backbone.stages.1')  # no norm
    with pytest.raises(FeatureHeadError, match='tail .* differs from'):
        record(model, recorder=recorder)


def test_another_width_is_an_error_that_names_the_module():
    with pytest.raises(
            FeatureHeadError,
            match=r'tail \(LinearClsHead\) on the average output of '
            r'backbone.stages.0 fails on its shape'):
        record(
            build_tailed('convnext'),
            recorder=RegionHeadRecorder(feature='backbone.stages.0'))


def test_a_tail_is_the_whole_head():
    with pytest.raises(TypeError, match="RegionHeadRecorder.*'head'"):
        RegionHeadRecorder(head='head.fc')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_precision(dtype):
    model = build_tailed('gem').eval()
    recorder = RegionHeadRecorder()
    recorder.initialize(model)
    if dtype == torch.float64:
        model.double()
        with recorder:
            model(torch.rand(3, 3, 32, 32, dtype=dtype), mode='tensor')
        assert recorder.get_record_data().local_logits().dtype == dtype
        return
    with recorder, torch.autocast('cpu', dtype=dtype):
        model(torch.rand(3, 3, 32, 32), mode='tensor')
    cells = recorder.get_record_data().local_logits()
    assert cells.dtype == torch.float32 and cells.isfinite().all()


def test_inside_mmrazors_recorder_manager_and_deepcopy():
    manager = RecorderManager(dict(head=dict(type='RegionHead')))
    model = build_tailed('stacked').eval()
    manager.initialize(model)
    copied, model_copy = copy.deepcopy((manager, model))
    nn.init.zeros_(model.head.layers[1].fc.weight)
    with copied:
        logits = model_copy(torch.rand(3, 3, 32, 32), mode='tensor')
    region = copied.get_recorder('head').get_record_data()
    torch.testing.assert_close(
        region.local_logits((1, ), 'direct')[0], logits, atol=1e-5, rtol=1e-4)


def mixer(**kwargs):
    backbone = dict(
        type='MlpMixer',
        arch=dict(
            embed_dims=16,
            num_layers=1,
            tokens_mlp_dims=8,
            channels_mlp_dims=8),
        img_size=64,
        patch_size=16)
    backbone.update(kwargs)
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling', dim=1),
            head=dict(LINEAR)))


@pytest.mark.parametrize('recorder_type',
                         [FeatureHeadRecorder, RegionHeadRecorder])
def test_tokens_lie_on_their_grid(recorder_type):
    """16 channels and 16 tokens: the layout cannot be told by the shape."""
    model = mixer().eval()
    tokens = []
    model.neck.gap.register_forward_pre_hook(lambda m, i: tokens.append(i[0]))
    head, logits = record(model, torch.rand(3, 3, 64, 64),
                          recorder_type(token_grid=(4, 4)))
    assert head.map_size == (4, 4)
    found = head.local_logits((4, ), 'direct')
    for index in range(16):  # row by row
        torch.testing.assert_close(found[index],
                                   model.head.fc(tokens[0][:, :, index]))
    torch.testing.assert_close(head.logits(), logits)


def test_tokens_that_a_module_returns():
    model = mixer().eval()
    tokens = []
    model.backbone.ln1.register_forward_hook(lambda m, i, o: tokens.append(o))
    head, _ = record(
        model, torch.rand(3, 3, 64, 64),
        FeatureHeadRecorder(feature='backbone.ln1', token_grid=[4, 4]))
    torch.testing.assert_close(
        head.local_logits((4, ), 'direct')[7], model.head.fc(tokens[0][:, 7]))


@pytest.mark.parametrize('grid, message', [
    (None, r'AdaptiveAvgPool1d.*token_grid=\(h, w\)'),
    ((3, 4), r'16 tokens do not fill token_grid=\(3, 4\)'),
    ((2, 8), r'does not have the shape of the 64 x 64 images'),
])
def test_wrong_token_grids(grid, message):
    with pytest.raises(FeatureHeadError, match=message):
        record(mixer().eval(), torch.rand(2, 3, 64, 64),
               FeatureHeadRecorder(token_grid=grid))


@pytest.mark.parametrize('grid', [(4, ), (4, 4, 1), (0, 4), (4., 4.),
                                  (True, 4)])
def test_token_grids_that_are_none(grid):
    with pytest.raises(ValueError, match='two positive integers'):
        FeatureHeadRecorder(token_grid=grid)


@pytest.mark.parametrize('recorder, message', [
    (FeatureHeadRecorder(token_grid=(8, 8)), 'leave token_grid out'),
    (FeatureHeadRecorder(pooling='neck', token_grid=(8, 8)), 'not tokens'),
    (RegionHeadRecorder(token_grid=(8, 8)), 'leave token_grid out'),
    (FeatureHeadRecorder(pooling='neck', feature='backbone'), 'name one'),
    (RegionHeadRecorder(feature='bakbone'), "no module 'bakbone'.*backbone"),
    (FeatureHeadRecorder(pooling='head.fc'), 'not .B, C, h, w.'),
])
def test_what_does_not_fit(recorder, message):
    with pytest.raises(FeatureHeadError, match=message):
        record(build_classifier().eval(), recorder=recorder)


@pytest.mark.parametrize('backbone, neck, head, message', [
    (dict(type='ResNet', depth=18), GAP,
     dict(type='ArcFaceClsHead', num_classes=10,
          in_channels=512), 'NormProduct'),
    (dict(type='ResNet', depth=18), GAP,
     dict(type='MultiLabelLinearClsHead', num_classes=10,
          in_channels=512), 'multi-label'),
    (dict(type='VisionTransformer', arch='deit-tiny', img_size=64), None,
     dict(type='VisionTransformerClsHead', num_classes=10,
          in_channels=192), 'does not average a map'),
    (dict(
        type='ConvNeXt',
        arch=dict(depths=[1, 1], channels=[4, 16]),
        out_indices=(0, )), None, dict(LINEAR, in_channels=4), 'stage 0 of 2'),
    (RESNET,
     dict(
         type='NonLinearNeck', in_channels=16, hid_channels=8,
         out_channels=16), LINEAR, 'NonLinearNeck is not a pooling'),
])
def test_what_pools_no_map_is_refused(backbone, neck, head, message):
    model = MODELS.build(
        dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head))
    with pytest.raises(FeatureHeadError, match=message):
        RegionHeadRecorder().initialize(model)


def test_a_multi_label_head_with_one_softmax_is_a_classifier():
    """MMPretrain's Mixup configs have it."""
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=RESNET,
            neck=GAP,
            head=dict(
                type='MultiLabelLinearClsHead',
                num_classes=10,
                in_channels=16,
                loss=dict(type='CrossEntropyLoss', use_soft=True))))
    record(model, recorder=FeatureHeadRecorder())


def test_an_error_names_the_role():
    model = build(
        distiller=dict(
            type='SDDDistiller',
            student_recorders=dict(
                feature_head=dict(type='FeatureHead', pooling='head.fc')),
            distill_losses=dict(loss_sdd=sdd_loss())))
    with pytest.raises(FeatureHeadError, match='student ImageClassifier'):
        losses(model)


def test_dropout_before_the_classifier_is_no_difference():
    """As in InceptionV3: named modules, dropout in between."""
    model = build_classifier().train()
    model.head.register_forward_pre_hook(lambda module, inputs: (
        (F.dropout(inputs[0][-1], .5, model.training), ), ))
    head, logits = record(model, recorder=FeatureHeadRecorder())
    assert (head.logits() - logits).abs().max() > 1e-3
    assert all(module.training for module in model.modules())
    assert all(
        int(value) == 1 for name, value in model.named_buffers()
        if name.endswith('num_batches_tracked'))
