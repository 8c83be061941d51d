# Copyright (c) sdd_mm contributors. All rights reserved.
"""timm's classifiers as teachers."""
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from test_configs import CONFIGS, smoke

from sdd_mm import make_config
from sdd_mm.config_builder import ConfigBuilderError
from sdd_mm.converters import ConversionError
from sdd_mm.converters.timm_classifier import (convert_timm, convert_timm_file,
                                               timm_logits_teacher,
                                               timm_teacher)
from sdd_mm.models.algorithms.teacher import load_teacher
from sdd_mm.models.algorithms.teacher_inference import fold_batch_norms

timm = pytest.importorskip('timm')
RES18 = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
CONVERTER = CONFIGS.parent / 'tools/model_converters/timm_to_mmpretrain.py'


def trained(name, num_classes=10):
    """A model of timm with norms as if trained."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=num_classes)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(value, 0, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize('name, suffix', [
    ('resnet10t', '.safetensors'),
    ('mobilenetv2_050', '.pth'),
    ('regnetx_002', '.pth'),
])
def test_a_converted_teacher_gives_timms_logits(tmp_path, name, suffix):
    model = trained(name)
    source, target = tmp_path / f'timm{suffix}', tmp_path / 'new' / 'mm.pth'
    if suffix == '.pth':
        torch.save(
            dict(
                epoch=1,
                state_dict={
                    f'module.{key}': value
                    for key, value in model.state_dict().items()
                }), source)
    else:
        from safetensors.torch import save_file
        save_file(model.state_dict(), source)
    convert_timm_file(name, str(source), str(target))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(timm_teacher(name, 10)).eval()
    load_teacher(teacher, str(target))
    images = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        own, found = model(images), teacher(images)
    assert own.std() > 1e-3
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)


def test_normalization_is_timms():
    preprocessor = timm_teacher('mobilenetv2_050')['data_preprocessor']
    assert preprocessor == dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True)
    model = trained('mobilevit_xxs')
    meta = convert_timm('mobilevit_xxs', model.state_dict())['meta']
    assert meta['input_normalization'] == dict(
        mean=[0.0] * 3, std=[255.0] * 3, channel_order='RGB')


@pytest.mark.parametrize('name, reason', [
    ('convnext_atto', r'between .* head.norm \(LayerNorm2d\)'),
    ('mobilenetv3_small_050', r'conv_head \(Conv2d\), act2 \(Hardswish\)'),
    ('vit_tiny_patch16_224', 'does not pool a feature map'),
    ('dla34', 'a Conv2d, not one linear layer'),
    ('deit_tiny_distilled_patch16_224', 'it has 2 classifiers, not one'),
    ('resnet19', 'Unknown model'),
])
def test_what_is_not_linear_is_refused(name, reason):
    with pytest.raises(ConversionError, match=reason):
        timm_teacher(name)


@pytest.mark.parametrize('name', [
    'levit_128s', 'deit_tiny_distilled_patch16_224', 'dla46x_c',
    'resnetv2_18d.ra4_e3600_r224_in1k'
])
def test_classes_are_counted_whatever_the_classifier_is(name):
    model = timm.create_model(name.split('.')[0], num_classes=7)
    weights = convert_timm(name, model.state_dict())['state_dict']
    own = model.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[key], own[key]) for key in own)


@pytest.mark.parametrize('given, message', [
    (dict(std=[0.2, 0.2, 0.2]), 'for images from 0 to 1: multiply'),
    (dict(std=[128.]), 'a number for each of the three channels'),
    (dict(mean=[1., 2.]), 'a number for each of the three channels'),
])
def test_a_normalization_that_cannot_be(given, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        convert_timm_file('resnet10t', 'absent.pth', str(tmp_path / 'x.pth'),
                          **given)


def test_a_teacher_of_another_normalization(tmp_path):
    """The config has what the converted checkpoint states."""
    torch.save(trained('resnet10t').state_dict(), tmp_path / 'timm.pth')
    convert_timm_file(
        'resnet10t',
        str(tmp_path / 'timm.pth'),
        str(tmp_path / 'teacher.pth'),
        mean=[0.] * 3,
        std=[255.] * 3)
    path = make_config(
        tmp_path / 'run.py',
        student=RES18,
        teacher='timm::resnet10t',
        teacher_ckpt=str(tmp_path / 'teacher.pth'),
        on_normalization_mismatch='convert')
    found = Config.fromfile(path).model.teacher.data_preprocessor
    assert (found.mean, found.std) == ([0.] * 3, [255.] * 3)


def test_parameters_of_the_model_itself_are_no_layer():
    """Visformer's position embeddings; it is linear after its pooling."""
    config = timm_teacher('visformer_tiny', 10)
    assert config['backbone']['type'] == 'TIMMBackbone'


@pytest.mark.parametrize('name', ['mobilenetv3_small_050', 'regnetx_002'])
def test_a_batch_norm_with_an_activation_inside_is_not_folded(name):
    config = timm_logits_teacher(name, 10)
    config.pop('data_preprocessor')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config).eval()
    model.backbone.net.load_state_dict(trained(name).state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        own = model(images)
        folded = fold_batch_norms(model, images)
        found = model(images)
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-4)
    assert folded == 0


@pytest.mark.parametrize('pooling, reason', [
    ('max', 'differ from its own .* does not pool by the average'),
    ('catavgmax', r'shape \(1, 512, \d, \d\), not \(B, 1024, h, w\)'),
])
def test_another_pooling_is_refused(monkeypatch, pooling, reason):
    create = timm.create_model
    monkeypatch.setattr(
        timm, 'create_model',
        lambda *args, **kwargs: create(*args, **{
            'global_pool': pooling,
            **kwargs
        }))
    with pytest.raises(ConversionError, match=reason):
        timm_teacher('resnet10t')


def test_what_does_not_fit_is_listed():
    weights = dict(trained('resnet10t').state_dict(), surplus=torch.zeros(1))
    del weights['layer1.0.conv1.weight'], weights['bn1.num_batches_tracked']
    weights['fc.bias'] = torch.zeros(3)
    with pytest.raises(ConversionError) as error:
        convert_timm('resnet10t', weights)
    for part in ('1 weight is not in the model: surplus;',
                 'backbone.timm_model.layer1.0.conv1.weight;',
                 'fc.bias (3,) instead of (10,)'):
        assert part in str(error.value)
    assert 'num_batches_tracked' not in str(error.value)
    with pytest.raises(ConversionError, match='no fc.weight'):
        convert_timm('resnet10t', {})


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ConversionError, match=r'pip install timm'):
        timm_teacher('resnet10t')


def test_distil_a_timm_teacher(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'timm.pth', tmp_path / 'mmpretrain.pth'
    torch.save(trained('resnet10t').state_dict(), source)
    arguments = dict(
        student=RES18,
        teacher='timm::resnet10t',
        on_normalization_mismatch='convert')
    # timm's own file is not what MMPretrain loads
    with pytest.raises(ConfigBuilderError, match='timm_to_mmpretrain.py'):
        make_config(tmp_path / 'run.py', teacher_ckpt=str(source), **arguments)
    monkeypatch.setattr(
        sys, 'argv', ['', 'resnet10t',
                      str(source), str(target)])
    runpy.run_path(str(CONVERTER), run_name='__main__')
    assert 'teacher timm::resnet10t' in capsys.readouterr().out
    out = make_config(
        tmp_path / 'run.py', teacher_ckpt=str(target), **arguments)
    cfg = Config.fromfile(out)
    # CIFAR's arrays are RGB, as timm's models want them
    assert cfg.model.teacher.data_preprocessor.to_rgb is False
    runner, losses = smoke(out, tmp_path / 'run')
    assert runner.model.teacher_ckpt == str(target)
    assert 'distill.loss_sdd' in losses
    own = torch.load(source)['fc.weight']
    assert torch.equal(runner.model.teacher.head.fc.weight.cpu(), own)


def test_a_timm_teacher_that_cannot_teach(tmp_path):
    with pytest.raises(
            ConfigBuilderError, match='teacher timm::convnext_atto: between'):
        make_config(tmp_path / 'run.py', RES18, 'timm::convnext_atto')


VIT = 'test_vit2'  # a class token, 64 x 64 pixels


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_vision_transformer_teaches_by_its_logits(tmp_path, suffix):
    model = trained(VIT)
    torch.nn.init.normal_(model.head.weight)
    source, target = tmp_path / f'timm{suffix}', tmp_path / 'vit.pth'
    if suffix == '.pth':
        torch.save(model.state_dict(), source)
    else:
        from safetensors.torch import save_file
        save_file(model.state_dict(), source)
    convert_timm_file(VIT, str(source), str(target))
    with pytest.raises(ConfigBuilderError, match='kd, dkd and nkd need'):
        make_config(tmp_path / 'sd-kd.py', RES18, f'timm::{VIT}', 'sd-kd')
    size = model.default_cfg['input_size'][-1]
    path = make_config(
        tmp_path / 'kd.py',
        RES18,
        f'timm::{VIT}',
        'kd',
        teacher_ckpt=target,
        teacher_size=size,
        on_normalization_mismatch='convert')
    cfg = Config.fromfile(path)
    assert cfg.model.teacher.type == 'ModuleClassifier'
    assert cfg.model.teacher_input == dict(type='Resize', scale=size)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(cfg.model.teacher).eval()
    load_teacher(teacher, str(target))
    images = torch.rand(2, 3, size, size)
    assert torch.equal(teacher(images), model(images))
    # timm's own file of weights is one of this teacher, too
    if suffix == '.pth':
        load_teacher(teacher, str(source))


@pytest.mark.parametrize('name',
                         ['deit_tiny_distilled_patch16_224', 'levit_128s'])
def test_classifiers_that_are_no_linear_layer_convert_for_kd(name):
    """Two of them, or a norm with each: their logits are their own."""
    torch.manual_seed(0)
    plain = timm.create_model(name).eval()
    found = convert_timm(name, plain.state_dict())
    teacher = MODELS.build(timm_logits_teacher(name)).eval()
    teacher.load_state_dict(found['state_dict'])
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(teacher(images), plain(images))
