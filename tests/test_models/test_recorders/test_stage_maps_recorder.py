# Copyright (c) sdd_mm contributors. All rights reserved.
import copy
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmrazor.models.task_modules import RecorderManager
from toy import build, build_classifier, classifier, losses

from sdd_mm.models.recorders import StageError, StageMapsRecorder

BASES = Path(mmpretrain.__file__).parent / '.mim' / 'configs/_base_/models'
CONFIGS = Path(__file__).parents[3] / 'configs/_base_/models'
SIGNED, POSITIVE = True, False
# Channels and heights of the maps of 32 x 32 images, as distillation papers
# take them; whether they have negative numbers; width of the pooled features.
CIFAR = {
    'resnet20': ('16,32 32,16 64,8', POSITIVE, 64),
    'resnet8x4': ('64,32 128,16 256,8', POSITIVE, 256),
    'wrn16-2': ('32,32 64,16 128,8', SIGNED, 128),
    'wrn40-1': ('16,32 32,16 64,8', SIGNED, 64),
    'vgg8': ('128,16 256,8 512,4 512,4', POSITIVE, 512),
    'vgg13': ('128,16 256,8 512,4 512,4', POSITIVE, 512),
    'resnet50': ('256,32 512,16 1024,8 2048,4', POSITIVE, 2048),
    'mobilenet-v2': ('12,16 16,8 48,4 160,2', SIGNED, 1280),
    'shufflenet-v1': ('240,16 480,8 960,4', POSITIVE, 960),
    'shufflenet-v2': ('116,16 232,8 464,4', POSITIVE, 1024),
}
# heights of 224 x 224 images
LARGE = {
    'resnet8x4_cub200': ('64,112 128,56 256,28', POSITIVE, 256),
    'mobilenet-v2_cub200': ('12,56 16,28 48,14 160,7', SIGNED, 1280),
    'shufflenet-v1_cub200': ('240,56 480,28 960,14', POSITIVE, 960),
    'vgg8_cub200': ('128,112 256,56 512,28 512,28', POSITIVE, 512),
    'resnet18_imagenet': ('64,56 128,28 256,14 512,7', POSITIVE, 512),
    'mobilenet-v1_imagenet': ('128,56 256,28 512,14 1024,7', POSITIVE, 1024),
}
NETWORKS = {f'{name}_cifar100': (*rest, 32) for name, rest in CIFAR.items()}
NETWORKS.update({name: (*rest, 224) for name, rest in LARGE.items()})
LINEAR = 'mobilenet-v2', 'shufflenet'


def network(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    torch.manual_seed(0)
    return PRETRAIN_MODELS.build(next(iter(config.values())))


def record(model, size=32, **kwargs):
    """The recorders of one forward pass in train mode, as in a run."""
    recorders = [
        StageMapsRecorder(**options)
        for options in kwargs.pop('recorders', [kwargs])
    ]
    for recorder in recorders:
        recorder.initialize(model)
        recorder.__enter__()
    with torch.no_grad():
        model.train()(torch.randn(2, 3, size, size))
    for recorder in recorders:
        recorder.__exit__(None, None, None)
    return [recorder.get_record_data() for recorder in recorders]


def not_in_place(model):
    """What MMRazor's algorithms do with their networks."""
    for module in model.modules():
        if hasattr(module, 'inplace'):
            module.inplace = False
    return model


@pytest.mark.parametrize('name', NETWORKS)
def test_maps_of_every_network(name):
    shapes, signed, width, size = NETWORKS[name]
    expected = [tuple(map(int, shape.split(','))) for shape in shapes.split()]
    model = not_in_place(network(name))
    options = [dict(pooled=True)]
    if not name.startswith(LINEAR):
        options.append(dict(preact=True, pooled=True))
    (*maps, pooled), *others = record(model, size, recorders=options)
    assert [(x.shape[1], x.shape[2]) for x in maps] == expected
    assert [x.min().item() < 0 for x in maps] == [signed] * len(maps)
    assert pooled.shape == (2, width) and pooled.min() >= 0
    for *before, also_pooled in others:
        assert [x.shape for x in before] == [x.shape for x in maps]
        assert torch.equal(pooled, also_pooled)
        for x, y in zip(before, maps):
            assert x.min() < 0
            if signed:  # after the BatchNorm of what follows
                assert x.mean((0, 2, 3)).abs().max() < 1e-5
            else:
                assert torch.equal(x.relu(), y)
    if signed and others:
        # what the classifier pools is the activation of the last
        last = others[0][-2].relu().mean((2, 3))
        torch.testing.assert_close(last, pooled)


# of MMPretrain, and 64 x 64 images
FOUR = '256,16 512,8 1024,4 2048,2'
OTHERS = {
    'resnet18_cifar': ('64,64 128,32 256,16 512,8', POSITIVE),
    'resnetv1d50': (FOUR, POSITIVE),
    'resnext50_32x4d': (FOUR, POSITIVE),
    'seresnet50': (FOUR, POSITIVE),
    'res2net50-w14-s8': (FOUR, POSITIVE),
    'resnest50': (FOUR, POSITIVE),
    'wide-resnet50': (FOUR, POSITIVE),
    'regnet/regnetx_400mf': ('32,16 64,8 160,4 384,2', POSITIVE),
    'vgg11': ('128,32 256,16 512,8 512,4', POSITIVE),
    'vgg16bn': ('128,32 256,16 512,8 512,4', POSITIVE),
    'mobilenet_v2_1x': ('24,16 32,8 96,4 320,2', SIGNED),
    'mobilenet_v3/mobilenet_v3_small_050_imagenet':
    ('8,16 16,8 24,4 48,2', SIGNED),
    'mobilenet_v3/mobilenet_v3_large_imagenet':
    ('24,16 40,8 112,4 160,2', SIGNED),
    'shufflenet_v1_1x': ('240,8 480,4 960,2', POSITIVE),
    'shufflenet_v2_1x': ('116,8 232,4 464,2', POSITIVE),
}
WITHOUT_ACTIVATION = 'mobilenet', 'shufflenet_v2'


@pytest.mark.parametrize('name', OTHERS)
def test_maps_of_mmpretrains_networks(name):
    shapes, signed = OTHERS[name]
    expected = [tuple(map(int, shape.split(','))) for shape in shapes.split()]
    config = Config.fromfile(BASES / f'{name}.py').model
    config.pop('train_cfg', None)
    if 'vgg' in name:
        config.backbone.num_classes = -1  # its layers need 224 x 224
    torch.manual_seed(0)
    model = not_in_place(PRETRAIN_MODELS.build(config).backbone)
    holder = torch.nn.Module()
    holder.backbone, holder.forward = model, model.forward
    options = [dict()]
    if not name.startswith(WITHOUT_ACTIVATION):
        options.append(dict(preact=True))
    maps, *others = record(holder, 64, recorders=options)
    assert [(x.shape[1], x.shape[2]) for x in maps] == expected
    assert [x.min().item() < 0 for x in maps] == [signed] * len(maps)
    for before in others:
        for x, y in zip(before, maps):
            assert x.min() < 0 and torch.equal(x.relu(), y)


def test_a_map_that_is_overwritten_in_place_is_refused():
    model = network('resnet8_cifar100')
    with pytest.raises(StageError, match='overwritten in place'):
        record(model, preact=True)
    maps, = record(model)
    assert len(maps) == 3


def test_the_algorithm_turns_in_place_off_before():
    recorder = dict(type='StageMaps', preact=True, pooled=True)
    model = build(
        distiller=dict(
            type='SDDDistiller',
            student_recorders=dict(stages=recorder),
            teacher_recorders=dict(stages=recorder),
            distill_losses=dict(
                loss_review=dict(
                    type='ReviewLoss',
                    student_channels=(4, 8, 16, 16),
                    teacher_channels=(8, 16, 32, 32))),
            loss_forward_mappings=dict(
                loss_review={
                    side: dict(recorder='stages', from_student=ours)
                    for side, ours in (('student', True), ('teacher', False))
                })))
    seen = []
    model.distiller.distill_losses.loss_review.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs),
        with_kwargs=True)
    losses(model)
    for side in ('student', 'teacher'):
        *maps, pooled = seen[0][side]
        assert all(x.min() < 0 for x in maps) and pooled.min() >= 0


def test_named_modules_and_one_map_by_its_index():
    manager = RecorderManager(
        dict(
            named=dict(
                type='StageMaps',
                sources=['backbone.layer1', 'backbone.layer2']),
            stages=dict(type='StageMaps')))
    model = build_classifier()
    manager.initialize(model)
    copied, model_copy = copy.deepcopy((manager, model))
    with copied:
        model_copy(torch.rand(2, 3, 32, 32), mode='tensor')
    named, stages = (copied.get_recorder(name) for name in ('named', 'stages'))
    assert len(named.get_record_data()) == 2
    assert named.get_record_data(data_idx=1) is stages.get_record_data()[1]
    assert stages.get_record_data(data_idx=-1).shape == (2, 16, 8, 8)
    # the copy recorded, the original did not
    assert not manager.get_recorder('named').data_buffer


@pytest.mark.parametrize('backbone, options, message', [
    (dict(type='LeNet5'), dict(),
     'LeNet5 are not known.*sources=.* backbone.features.6, '),
    (dict(type='ConvNeXt', arch='tiny'), dict(),
     r'sources=\[...\] of the StageMaps recorder.*backbone.stages.0, back'),
    (None, dict(sources=['backbone.layr2']),
     "Did you mean 'backbone.layer2' or "),
    (dict(type='CIFARShuffleNetV1'), dict(preact=True), 'leave it out'),
    (None, dict(sources=['backbone.layer9']), "no module 'backbone.layer9'"),
    (None, dict(sources=['head.loss_module']), 'did not call'),
    (None, dict(sources='layer1'), "'stages' or a list"),
    (None, dict(sources=['backbone.bn1'], preact=True), 'preact=True needs'),
])
def test_what_cannot_be_recorded_is_refused(backbone, options, message):
    config = classifier()
    if backbone:
        config.update(backbone=backbone)
    with pytest.raises(ValueError, match=message):
        record(PRETRAIN_MODELS.build(config), **options)


def test_pooled_features_need_a_neck():
    config = classifier()
    del config['neck']
    with pytest.raises(StageError, match='pooled'):
        record(PRETRAIN_MODELS.build(config), pooled=True)
