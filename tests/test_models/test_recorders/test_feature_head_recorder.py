# Copyright (c) sdd_mm contributors. All rights reserved.
import copy

import pytest
import torch
from mmpretrain.registry import MODELS
from mmrazor.models.task_modules import RecorderManager
from mmrazor.registry import TASK_UTILS
from torch import nn
from toy import build_classifier, classifier, skip_without_autocast

from sdd_mm.models.recorders import FeatureHeadError, FeatureHeadRecorder

GAP = dict(type='GlobalAveragePooling')


def linear_head(channels):
    return dict(type='LinearClsHead', num_classes=10, in_channels=channels)


def image_classifier(backbone, neck, head):
    return MODELS.build(
        dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head))


def record(model, images=None, **names):
    recorder = FeatureHeadRecorder(**names)
    recorder.initialize(model)
    images = torch.rand(2, 3, 32, 32) if images is None else images
    model.eval()
    with recorder, torch.no_grad():
        logits = model(images, mode='tensor')
    return recorder, recorder.get_record_data(), logits


def test_finds_map_and_classifier_of_a_resnet():
    model = build_classifier()
    recorder, head, logits = record(model)
    assert recorder.modules.source.name == 'neck.gap'
    assert recorder.modules.title == 'head.fc'
    assert head.feature.shape == (2, 16, 8, 8)
    assert head.weight is model.head.fc.weight
    assert head.bias is model.head.fc.bias
    torch.testing.assert_close(head.logits(), logits)
    torch.testing.assert_close(
        head.local_logits((2, ), 'direct').mean(0), logits)


def test_several_stages_keep_the_last():
    config = classifier()
    config['backbone'] = dict(
        type='ResNet', depth=18, num_stages=4, out_indices=(0, 1, 2, 3))
    config['head']['in_channels'] = 512
    _, head, logits = record(MODELS.build(config), torch.rand(1, 3, 64, 64))
    assert head.feature.shape == (1, 512, 2, 2)
    torch.testing.assert_close(head.logits(), logits)


def test_nested_neck_of_hrnet():
    model = image_classifier(
        dict(type='HRNet', arch='w18'),
        [dict(type='HRFuseScales', in_channels=(18, 36, 72, 144)), GAP],
        linear_head(2048))
    recorder, head, logits = record(model, torch.rand(1, 3, 64, 64))
    assert recorder.modules.source.name == 'neck.1.gap'
    torch.testing.assert_close(head.logits(), logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('backbone, channels', [
    (dict(type='MobileNetV2'), 1280),
    (dict(type='ShuffleNetV2'), 1024),
    (dict(
        type='SwinTransformer', arch='tiny', img_size=64,
        pad_small_map=True), 768),
    (dict(type='EfficientNet', arch='b0'), 1280),
    (dict(
        type='VisionTransformer',
        arch='deit-tiny',
        img_size=64,
        out_type='featmap',
        with_cls_token=False), 192),
])
def test_other_families_that_are_linear(backbone, channels):
    model = image_classifier(backbone, GAP, linear_head(channels))
    _, head, logits = record(model, torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(head.logits(), logits, atol=1e-5, rtol=1e-4)


ARCFACE = dict(type='ArcFaceClsHead', num_classes=10, in_channels=512)
REFUSED = [
    (dict(type='MobileNetV3', arch='small'), GAP,
     dict(
         type='StackedLinearClsHead',
         num_classes=10,
         in_channels=576,
         mid_channels=[64],
         act_cfg=dict(type='HSwish')), 'StackedLinearClsHead is more than one '
     'linear layer: .*Hardswish'),
    (dict(type='ConvNeXt', arch='atto'), None, linear_head(320),
     'ConvNeXt pools by itself and normalizes after pooling'),
    (dict(type='ResNet',
          depth=18), GAP, ARCFACE, 'NormProduct, not a plain torch.nn.Linear'),
    (dict(type='VGG', depth=11, num_classes=10), None, dict(type='ClsHead'),
     'the classifier is inside the backbone VGG'),
    (dict(type='VisionTransformer', arch='deit-tiny', img_size=64), None,
     dict(type='VisionTransformerClsHead', num_classes=10,
          in_channels=192), 'VisionTransformer classifies a class token'),
    (dict(type='VisionTransformer', arch='deit-tiny', img_size=64), None,
     dict(
         type='VisionTransformerClsHead',
         num_classes=10,
         in_channels=192,
         hidden_dim=32), 'more than one linear layer: .*Tanh'),
    (dict(
        type='VisionTransformer',
        arch='deit-tiny',
        img_size=64,
        out_type='avg_featmap'), None,
     dict(type='VisionTransformerClsHead', num_classes=10,
          in_channels=192), 'it has no `neck`'),
    (dict(type='ResNet', depth=18), dict(type='GeneralizedMeanPooling'),
     linear_head(512), 'GeneralizedMeanPooling is not a GlobalAveragePooling'),
    (dict(type='ResNet', depth=18), GAP,
     dict(type='MultiLabelLinearClsHead', num_classes=10,
          in_channels=512), 'multi-label'),
    (dict(type='ResNet',
          depth=18), dict(type='GlobalAveragePooling',
                          dim=1), linear_head(512), 'AdaptiveAvgPool1d'),
    (dict(type='EfficientFormer',
          arch='l1'), dict(type='GlobalAveragePooling', dim=1),
     dict(type='EfficientFormerClsHead', num_classes=10,
          in_channels=448), 'more than one linear layer'),
]


@pytest.mark.parametrize('backbone, neck, head, reason', REFUSED)
def test_what_is_not_linear_is_refused_with_the_reason(backbone, neck, head,
                                                       reason):
    model = image_classifier(backbone, neck, head)
    with pytest.raises(FeatureHeadError, match=reason) as info:
        FeatureHeadRecorder().initialize(model)
    assert 'ImageClassifier' in str(info.value)
    # how to override, where it would help
    final = 'NormProduct' in reason or reason == 'multi-label'
    assert ('pooling=' in str(info.value)) != final


class ScaledHead(nn.Module):
    """Looks like a linear head and is not."""

    num_classes = 10

    def __init__(self, function):
        super().__init__()
        self.fc = nn.Linear(16, 10)
        self.function = function

    def forward(self, feats):
        return self.function(self.fc(feats[-1]))


@pytest.mark.parametrize('function, message', [
    (lambda x: 10 * x, 'differs from the model\'s own logits'),
    (lambda x: x + 1e-2 * x.abs(), 'differs from the model\'s own logits'),
    (lambda x: (x, x), 'the model itself returns tuple'),
    (lambda x: x[:, :9], 'the model itself returns'),
    (lambda x: x * float('nan'), 'differs from the model\'s own logits'),
])
def test_numbers_decide_where_the_structure_looks_right(function, message):
    model = build_classifier()
    model.head = ScaledHead(function)
    with pytest.raises(FeatureHeadError, match=message):
        record(model)


def test_explicit_names_override():
    model = build_classifier()
    model.pool, model.classify = model.neck.gap, model.head.fc
    recorder, head, logits = record(model, pooling='pool', head='classify')
    torch.testing.assert_close(head.logits(), logits)
    whole = build_classifier()
    _, head, logits = record(whole, pooling='neck', head='head.fc')
    torch.testing.assert_close(head.logits(), logits)


@pytest.mark.parametrize('names, message', [
    (dict(pooling='nek.gap'), "no module 'nek.gap'.*neck.gap"),
    (dict(head='head.cf'), "no module 'head.cf'.*head.fc"),
    (dict(pooling=3),
     '`pooling` of a recorder is the name of a module, got 3'),
    (dict(head='backbone.conv1'), 'Conv2d, not a plain'),
])
def test_wrong_names_are_refused_with_the_nearest(names, message):
    with pytest.raises(FeatureHeadError, match=message):
        FeatureHeadRecorder(**names).initialize(build_classifier())


def zeros(weight):
    weight.zero_()


def equal_rows(weight):
    weight.copy_(torch.randn_like(weight[:1]).expand_as(weight))


def one_row(weight):
    weight[1:] = 0


@pytest.mark.parametrize('degenerate', [zeros, equal_rows, one_row])
def test_a_wrong_map_is_found_whatever_the_classifier_starts_from(degenerate):
    """Its channels are as many as the right one's."""
    for wrong in (dict(feature='backbone.layer3.0.conv1'),
                  dict(pooling='backbone.layer3.0.bn1')):
        model = build_classifier()
        with torch.no_grad():
            degenerate(model.head.fc.weight)
        before = model.head.fc.weight.clone()
        with pytest.raises(FeatureHeadError, match='differs from the model'):
            record(model, **wrong)
        assert torch.equal(model.head.fc.weight, before)
        record(model)


def test_the_check_leaves_training_as_it_was():
    """Statistics, random numbers, and the graph of the forward pass."""
    results = []
    for checked in (False, True):
        torch.manual_seed(0)
        model = build_classifier().train()
        recorder = FeatureHeadRecorder()
        recorder.initialize(model)
        recorder._checked = not checked
        with recorder:
            logits = model(torch.rand(4, 3, 32, 32), mode='tensor')
        head = recorder.get_record_data()
        (logits.sum() + head.local_logits().square().sum()).backward()
        results.append([
            *model.state_dict().values(),
            torch.rand(1), *(weight.grad for weight in model.parameters())
        ])
        assert model.training and all(m.training for m in model.modules())
    for one, other in zip(*results):
        assert torch.equal(one, other)


def test_wrong_pooling_is_found_by_its_shape():
    with pytest.raises(
            FeatureHeadError,
            match=r'head.fc on the average input of backbone.layer1 fails on '
            r'its shape \(2, 4, 32, 32\): weight must have shape'):
        record(build_classifier(), pooling='backbone.layer1')


def test_what_is_pooled_already_is_no_map():
    with pytest.raises(
            FeatureHeadError, match="1 x 1 map.*pooling='neck.gap'"):
        record(build_classifier(), feature='neck.gap')


def test_a_named_head_that_is_multi_label():
    model = image_classifier(
        dict(type='ResNet', depth=18), GAP,
        dict(type='MultiLabelLinearClsHead', num_classes=10, in_channels=512))
    with pytest.raises(FeatureHeadError, match='multi-label'):
        FeatureHeadRecorder(head='head.fc').initialize(model)


def test_pooling_that_is_not_called_is_an_error():
    model = build_classifier()
    model.unused = nn.Identity()
    with pytest.raises(FeatureHeadError, match='did not call unused'):
        record(model, pooling='unused')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_check_allows_for_half_precision(dtype):
    skip_without_autocast(dtype)
    model = build_classifier().eval()
    recorder = FeatureHeadRecorder()
    recorder.initialize(model)
    with recorder, torch.autocast('cpu', dtype=dtype):
        model(torch.rand(4, 3, 32, 32), mode='tensor')
    head = recorder.get_record_data()
    assert head.feature.dtype == dtype
    assert head.logits().dtype == torch.float32


def test_failed_forward_keeps_its_own_error():
    model = build_classifier()
    recorder = FeatureHeadRecorder()
    recorder.initialize(model)
    with pytest.raises(RuntimeError, match='expected input|channels'):
        with recorder:
            model(torch.rand(1, 5, 32, 32), mode='tensor')


def test_inside_mmrazors_recorder_manager_and_deepcopy():
    manager = RecorderManager(dict(head=dict(type='FeatureHead')))
    model = build_classifier()
    manager.initialize(model)
    copied, model_copy = copy.deepcopy((manager, model))
    with copied:
        model_copy(torch.rand(1, 3, 32, 32), mode='tensor')
    head = copied.get_recorder('head').get_record_data()
    assert head.weight is model_copy.head.fc.weight
    assert TASK_UTILS.get('FeatureHeadRecorder') is FeatureHeadRecorder
