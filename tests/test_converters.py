# Copyright (c) sdd_mm contributors. All rights reserved.
import argparse
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from literal import foreign_networks as foreign
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS

from sdd_mm.converters import ConversionError, convert, convert_file
from sdd_mm.models.algorithms import TeacherError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / '_base_' / 'models'
X4 = dict(channels=(32, 64, 128, 256))

NETWORKS = {
    **{
        f'resnet{depth}_cifar100': (foreign.resnet, dict(depth=depth))
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    'resnet8x4_cifar100': (foreign.resnet, dict(depth=8, **X4)),
    'resnet32x4_cifar100': (foreign.resnet, dict(depth=32, **X4)),
    'resnet18_cifar100':
    (foreign.resnet_v2, dict(blocks=(2, 2, 2, 2), bottleneck=False)),
    'resnet50_cifar100':
    (foreign.resnet_v2, dict(blocks=(3, 4, 6, 3), bottleneck=True)),
    **{
        f'wrn{depth}-{width}_cifar100': (foreign.wrn,
                                         dict(depth=depth, width=width))
        for depth in (16, 40)
        for width in (1, 2)
    },
    'vgg8_cifar100': (foreign.vgg, dict(convolutions=1)),
    'vgg13_cifar100': (foreign.vgg, dict(convolutions=2)),
    'mobilenet-v2_cifar100': (foreign.mobilenet_v2, {}),
    'shufflenet-v1_cifar100': (foreign.shufflenet_v1, {}),
    'shufflenet-v2_cifar100': (foreign.shufflenet_v2, {}),
    'resnet8x4_cub200': (foreign.resnet, dict(depth=8, cub=True, **X4)),
    'resnet32x4_cub200': (foreign.resnet, dict(depth=32, cub=True, **X4)),
    'resnet50_cub200': (foreign.resnet_v2,
                        dict(blocks=(3, 4, 6, 3), bottleneck=True, cub=True)),
    'vgg8_cub200': (foreign.vgg, dict(convolutions=1)),
    'vgg13_cub200': (foreign.vgg, dict(convolutions=2)),
    'mobilenet-v2_cub200': (foreign.mobilenet_v2, dict(cub=True)),
    'shufflenet-v1_cub200': (foreign.shufflenet_v1, dict(cub=True)),
    'shufflenet-v2_cub200': (foreign.shufflenet_v2, dict(cub=True)),
    'mobilenet-v1_imagenet': (foreign.mobilenet_v1, {}),
}
RESNETS = ('resnet18', 'resnet34', 'resnet50')
SIZE = dict(cifar100=32, cub200=48, imagenet=64)
CLASSES = dict(cifar100=100, cub200=200, imagenet=1000)


def images(name, size=2):
    side = SIZE[name.split('_')[-1]]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 3, side, side, generator=generator)


def state_dict(name):
    """Logits of a foreign network and its state dict."""
    network, arguments = NETWORKS[name]
    layers = foreign.Layers()
    logits = network(layers, images(name), CLASSES[name.split('_')[-1]],
                     **arguments)
    return logits, layers.weights


def build(name):
    (config, ) = Config.fromfile(CONFIGS / f'{name}.py').values()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config).eval()


def convert_weights(content, tmp_path, name='resnet8_cifar100', **kwargs):
    source, target = tmp_path / 'source.pth', tmp_path / 'new' / 'target.pth'
    torch.save(content, source)
    convert_file(source, target, CONFIGS / f'{name}.py', **kwargs)
    return target


def check_logits(name, checkpoint, expected, tolerance):
    model = build(name)
    load_checkpoint(model, str(checkpoint), strict=True)
    with torch.no_grad():
        logits = model(images(name))
    assert expected.std() > 0.1  # or a mistake would be lost in the tolerance
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


@pytest.fixture
def command(monkeypatch):
    """A converter as its command line runs it."""
    folder = ROOT / 'tools' / 'model_converters'
    monkeypatch.syspath_prepend(folder)

    def run(script, *args):
        monkeypatch.setattr(sys, 'argv', [script, *map(str, args)])
        runpy.run_path(str(folder / script), run_name='__main__')

    return run


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_keeps_its_logits(name, tmp_path):
    logits, weights = state_dict(name)
    check_logits(name, convert_weights(dict(model=weights), tmp_path, name),
                 logits, 1e-4)


@pytest.mark.parametrize('name', RESNETS)
def test_torchvision_keeps_its_logits(command, name, tmp_path):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)()
    for module in model.modules():  # as if trained
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.nn.init.normal_(model.fc.weight, std=0.05)
    config = f'{name}_imagenet'
    with torch.no_grad():
        logits = model.eval()(images(config))
    logits, scale = logits / logits.std(), logits.std()
    model.fc.weight.data /= scale  # deep random networks are loud
    model.fc.bias.data /= scale
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    torch.save(model.state_dict(), source)
    command('torchvision_to_mmpretrain.py', name, source, target)
    check_logits(config, target, logits, 1e-5)
    meta = torch.load(target, weights_only=True)['meta']
    assert meta['input_normalization'] == dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        channel_order='RGB')


def test_every_network_is_tested():
    names = {path.stem for path in CONFIGS.glob('*.py')}
    assert {name
            for name in names if 'digit_scenes' not in name
            } == {*NETWORKS, *(f'{name}_imagenet' for name in RESNETS)}


@pytest.fixture(scope='module')
def resnet8():
    return state_dict('resnet8_cifar100')


def prefixed(weights, prefix):
    return {f'{prefix}{name}': value for name, value in weights.items()}


@pytest.mark.parametrize(
    'wrap', [
        lambda weights: weights,
        lambda weights: dict(state_dict=weights, epoch=240),
        lambda weights: dict(
            model=prefixed(weights, 'module.'), best_acc=70.0),
        lambda weights: dict(model=prefixed(weights, 'module.student.')),
        lambda weights: dict(model=prefixed(weights, 'student.module.')),
        lambda weights: dict(
            model=dict(state_dict=prefixed(weights, '_orig_mod.'))),
        lambda weights: dict(
            opt=argparse.Namespace(lr=0.05, model='resnet8'), model=weights),
        lambda weights: {
            name: value
            for name, value in weights.items() if 'num_batches' not in name
        },
    ],
    ids=[
        'bare', 'state_dict', 'DataParallel', 'student', 'wrapped student',
        'nested and compiled', 'RepDistiller\'s last', 'no counters'
    ])
def test_wrappings(resnet8, wrap, tmp_path):
    logits, weights = resnet8
    if 'opt' in wrap(weights) and not hasattr(torch.serialization,
                                              'safe_globals'):
        with pytest.raises(ConversionError, match='holds a argparse'):
            convert_weights(wrap(weights), tmp_path)
        return
    check_logits('resnet8_cifar100', convert_weights(wrap(weights), tmp_path),
                 logits, 1e-4)


def test_counters_are_kept_or_filled(resnet8):
    _, weights = resnet8
    model, name = build('resnet8_cifar100'), 'bn1.num_batches_tracked'
    assert convert(weights, model)[f'backbone.{name}'] == 7
    rest = {key: value for key, value in weights.items() if key != name}
    assert convert(rest, model)[f'backbone.{name}'] == 0


def test_all_that_does_not_fit_is_listed(resnet8):
    weights = dict(resnet8[1])
    weights['layer9.0.conv1.weight'] = weights.pop('layer1.0.conv1.weight')
    weights['extra'] = weights.pop('fc.bias')
    weights['fc.weight'] = torch.zeros(10, 64)
    with pytest.raises(ConversionError) as info:
        convert(weights, build('resnet8_cifar100'))
    message = str(info.value)
    for part in ('2 weights are not in the model: layer9.0.conv1.weight, ex',
                 '2 weights are missing',
                 'backbone.layer1.0.conv1.weight, head.fc.bias',
                 'head.fc.weight (10, 64) instead of (100, 64)'):
        assert part in message


@pytest.mark.parametrize('source, model', [
    ('resnet20_cifar100', 'resnet8_cifar100'),
    ('resnet8_cifar100', 'resnet20_cifar100'),
    ('vgg13_cifar100', 'vgg8_cifar100'),
    ('shufflenet-v1_cifar100', 'shufflenet-v2_cifar100'),
    ('wrn16-2_cifar100', 'wrn16-1_cifar100'),
    ('resnet8x4_cifar100', 'resnet8x4_cub200'),
    ('resnet18_cifar100', 'resnet18_imagenet'),
])
def test_another_network_is_refused(source, model):
    with pytest.raises(ConversionError, match='not in|missing|shape'):
        convert(state_dict(source)[1], build(model))


def test_backbones_without_names_are_refused(resnet8):
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='MobileNetV2', widen_factor=0.5)))
    with pytest.raises(ConversionError, match='no table of names for Mobile'):
        convert(resnet8[1], model)


def test_whole_distiller_is_refused(resnet8, tmp_path):
    _, weights = resnet8
    content = dict(
        model={
            **prefixed(weights, 'module.student.'),
            **prefixed(weights, 'module.teacher.')
        })
    with pytest.raises(
            ConversionError,
            match=r'source.pth does not hold a resnet8_cifar100.*\(student, '
            r'teacher\).*student_best'):
        convert_weights(content, tmp_path)


class Malicious:

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path, )


@pytest.mark.parametrize(
    'content',
    [[], {}, dict(model=3), dict(model=dict(fc=3))])
def test_files_that_hold_no_weights(content, tmp_path):
    with pytest.raises(ConversionError, match='holds no state dict'):
        convert_weights(content, tmp_path)


def test_nothing_in_a_file_is_run(tmp_path):
    trap = tmp_path / 'trap'
    with pytest.raises(
            ConversionError,
            match=r'holds a \S+, and loading .* could run code. .*state dict'):
        convert_weights(dict(model=Malicious(str(trap))), tmp_path)
    assert not trap.exists()
    assert not (tmp_path / 'new').exists()
    with pytest.raises(ConversionError, match='cannot be read.*absent.pth'):
        convert_file(tmp_path / 'absent.pth', tmp_path / 'target.pth',
                     CONFIGS / 'resnet8_cifar100.py')


def test_what_is_converted_already(resnet8, tmp_path):
    path = convert_weights(resnet8[1], tmp_path)
    with pytest.raises(ConversionError, match="already are MMPretrain's"):
        convert_file(path, tmp_path / 'again.pth',
                     CONFIGS / 'resnet8_cifar100.py')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_listed(resnet8, value, tmp_path):
    weights = dict(resnet8[1])
    weights['fc.bias'] = torch.full_like(weights['fc.bias'], value)
    with pytest.raises(ConversionError, match='not finite .*: head.fc.bias'):
        convert_weights(weights, tmp_path)


def test_precision_is_the_networks(resnet8, tmp_path):
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in resnet8[1].items()
    }
    found = torch.load(
        convert_weights(weights, tmp_path), weights_only=True)['state_dict']
    assert found['head.fc.weight'].dtype == torch.float32
    torch.testing.assert_close(found['head.fc.weight'],
                               weights['fc.weight'].float())
    weights['fc.weight'] = weights['fc.weight'].long()
    with pytest.raises(ConversionError, match='floating point .*fc.weight'):
        convert_weights(weights, tmp_path)


@pytest.mark.parametrize('target', ['.', 'file/below.pth'])
def test_where_nothing_can_be_written(resnet8, target, tmp_path):
    (tmp_path / 'file').touch()
    torch.save(resnet8[1], tmp_path / 'old.pth')
    with pytest.raises(ConversionError, match='cannot be written'):
        convert_file(tmp_path / 'old.pth', tmp_path / target,
                     CONFIGS / 'resnet8_cifar100.py')


def test_a_config_that_is_not_one_model(resnet8, tmp_path):
    with pytest.raises(ConversionError, match='not hold a single model'):
        convert_file(tmp_path / 'old.pth', tmp_path / 'new.pth',
                     CONFIGS.parents[1] / 'vanilla' / 'res20_cifar100.py')


def test_meta_states_the_normalization(resnet8, tmp_path):
    content = torch.load(
        convert_weights(resnet8[1], tmp_path), weights_only=True)
    found = content['meta']['input_normalization']
    assert found['channel_order'] == 'RGB'
    assert found['mean'] == pytest.approx([129.3105, 124.1085, 112.404])
    assert found['std'] == pytest.approx([68.2125, 65.4075, 70.4055])
    content = torch.load(
        convert_weights(
            resnet8[1], tmp_path, mean=(120, 110, 100), std=(60, 61, 62)),
        weights_only=True)
    found = content['meta']['input_normalization']
    assert (found['mean'], found['std']) == ([120, 110, 100], [60, 61, 62])


@pytest.mark.parametrize('kwargs, message', [
    (dict(mean=(120, 110, 100)), 'both mean and std'),
    (dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)), 'multiply .* by 255'),
    (dict(mean=(0.5, 0.5, 0.5), std=(68, 65, 70)), 'multiply .* by 255'),
    (dict(mean=(120, 110, 100), std=(0, 0, 0)), 'std positive'),
    (dict(mean=(120, 110, 100), std=(-5, 60, 60)), 'std positive'),
    (dict(mean=(120, 110, float('nan')), std=(60, 60, 60)), 'finite'),
])
def test_normalizations_that_cannot_be(resnet8, kwargs, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        convert_weights(resnet8[1], tmp_path, **kwargs)


@pytest.fixture
def distill(tmp_path):
    """The paper's pair with a converted teacher."""
    name = 'resnet32x4_cifar100'
    checkpoint = convert_weights(state_dict(name)[1], tmp_path, name)
    path = ROOT / 'configs' / 'sdd' / 'sd-kd_res32x4_res8x4_cifar100.py'
    config = Config.fromfile(path)
    config.model.teacher_ckpt = str(checkpoint)
    config.model.data_preprocessor = config.data_preprocessor
    return config.model


# MMPretrain's own CIFAR-100, which differs in the third digit
OTHER = dict(
    num_classes=100,
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=False)


def test_a_converted_teacher_teaches(distill):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(distill)
    model.init_weights()
    with torch.no_grad():
        logits = model.teacher(images('resnet32x4_cifar100'))
    torch.testing.assert_close(
        logits, state_dict('resnet32x4_cifar100')[0], rtol=0, atol=1e-4)


def test_another_normalization_is_refused(distill):
    distill.teacher.data_preprocessor = OTHER
    distill.data_preprocessor = OTHER
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(distill)
    with pytest.raises(TeacherError) as info:
        model.load_teacher()
    message = str(info.value)
    for part in (distill.teacher_ckpt, '112.404', '129.304',
                 'model.teacher.data_preprocessor', 'RGB'):
        assert part in message
    # the student may keep its own
    distill.teacher.data_preprocessor = dict(
        OTHER,
        mean=[0.5071 * 255, 0.4867 * 255, 0.4408 * 255],
        std=[0.2675 * 255, 0.2565 * 255, 0.2761 * 255])
    distill.on_normalization_mismatch = 'convert'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        MODELS.build(distill).load_teacher()


def test_a_normalization_that_is_not_stated_is_refused(distill):
    distill.on_normalization_mismatch = 'ignore'
    distill.teacher.pop('data_preprocessor')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(distill)
    with pytest.raises(
            TeacherError,
            match=r'in the data preprocessor mean '
            r'\[0\], std \[1\]'):
        model.load_teacher()


def test_commands(command, resnet8, tmp_path):
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    torch.save(dict(model=resnet8[1]), source)
    command('repdistiller_to_mmpretrain.py', 'resnet8_cifar100', source,
            target, '--mean', 120, 110, 100, '--std', 60, 61, 62)
    check_logits('resnet8_cifar100', target, resnet8[0], 1e-4)
    meta = torch.load(target, weights_only=True)['meta']
    assert meta['input_normalization']['std'] == [60, 61, 62]
    assert meta['converted_from'] == 'source.pth'
    target.unlink()
    with pytest.raises(
            SystemExit,
            match='ERROR - .*source.pth does not hold a resnet50_imagenet: '):
        command('torchvision_to_mmpretrain.py', 'resnet50', source, target)
    assert not target.exists()
