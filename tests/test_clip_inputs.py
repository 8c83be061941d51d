# Copyright (c) sdd_mm contributors. All rights reserved.
"""What clips change on their way to a network, and what refuses them."""
import clips
import pytest
import torch
from clips import KD, SDD, batch, build, needs_mmaction, network

from sdd_mm.errors import SDDError
from sdd_mm.input_format import InputConversion, InputFormat
from sdd_mm.models.algorithms.teacher_inference import fold_batch_norms
from sdd_mm.models.algorithms.teacher_input import Resize
from sdd_mm.models.networks import logits_of


@needs_mmaction
def test_the_teacher_gets_clips_as_its_own_preprocessor_makes_them():
    model = build(
        on_normalization_mismatch='convert',
        teacher=dict(
            clips.recognizer(50),
            _scope_='mmaction',
            data_preprocessor=clips.OTHER_MEAN))
    student, teacher = (
        one.data_preprocessor(batch())['inputs']
        for one in (model, model.teacher))
    assert student.shape == (4, 1, 3, 8, 48, 48)
    torch.testing.assert_close(
        model.convert(student), teacher, rtol=0, atol=1e-5)
    assert (student - teacher).abs().max() > 0.1
    with pytest.raises(ValueError, match='expects clips .B, clips, C, T, H'):
        model.convert(student[:, 0, :, 0])


def test_several_clips_are_converted_alike():
    source = InputFormat((10., 20., 30.), (1., 2., 4.), channel_axis=-4)
    target = InputFormat((3., 2., 1.), (5., 6., 7.), to_rgb=True)
    clip = torch.randn(2, 3, 3, 3, 3, 3)  # every axis has 3 entries
    found = InputConversion(source, target)(clip)
    images = InputConversion(source._replace(channel_axis=-3), target)
    for place in range(3):  # frame by frame
        torch.testing.assert_close(found[:, :, :, place].flatten(0, 1),
                                   images(clip[:, :, :, place].flatten(0, 1)))


def test_a_resized_teacher_sees_every_frame_resized():
    resize, clip = Resize((5, 7)), torch.randn(2, 1, 3, 4, 9, 9)
    found = resize(clip)
    assert found.shape == (2, 1, 3, 4, 5, 7)
    for place in range(4):
        assert torch.equal(found[:, 0, :, place], resize(clip[:, 0, :, place]))


@needs_mmaction
def test_every_batch_norm_folds_into_its_3d_convolution():
    model = network(**clips.recognizer(50)).eval()
    for name, value in model.named_buffers():
        if 'running' in name:
            torch.nn.init.uniform_(value, 0.5, 2.)
    inputs = torch.randn(2, 1, 3, 8, 48, 48)
    with torch.no_grad():
        plain = logits_of(model, inputs)
        norms = sum(
            isinstance(module, torch.nn.BatchNorm3d)
            for module in model.modules())
        assert fold_batch_norms(model, inputs) == norms == 53
        folded = logits_of(model, inputs)
    torch.testing.assert_close(folded, plain, rtol=1e-3, atol=1e-4)
    model = build(teacher_inference=dict(fold_bn=True))
    assert model(**model.data_preprocessor(batch()), mode='loss')


def i3d(**head):
    return dict(clips.recognizer(**head), _scope_='mmaction')


@needs_mmaction
@pytest.mark.parametrize('changes, message', [
    (dict(architecture=i3d(classes=4)),
     'correct model.teacher.cls_head.num_classes or '
     'model.architecture.cls_head.num_classes'),
    (dict(data_preprocessor=dict(mean=[0.] * 3, std=[1.] * 3)),
     "AsyncClsDataPreprocessor (format_shape=None) would take another axis"),
    (dict(
        data_preprocessor=dict(clips.NORMALIZED, _scope_='mmaction')
        | dict(format_shape='NCHW')), "set model.data_preprocessor to dict("
     "_scope_='mmaction', type='ActionDataPreprocessor', "
     "format_shape='NCTHW', ...)"),
    (dict(architecture=i3d(spatial_type='max')),
     "set cls_head.spatial_type='avg'"),
    (dict(architecture=i3d(multi_class=True)), 'is multi-label'),
    (dict(architecture=i3d(type='TSNHead')), 'is not an I3DHead'),
    (dict(student_channels_last=True),
     'model.student_channels_last lays out images'),
    (dict(teacher=dict(i3d(), data_preprocessor=clips.OTHER_MEAN)),
     "set model.on_normalization_mismatch='convert'"),
    (dict(
        distiller=dict(
            type='SDDDistiller',
            teacher_recorders=dict(feature_head=dict(type='RegionHead')),
            distill_losses=dict(loss_sdd=SDD))),
     'a RegionHead applies the head of an MMPretrain classifier'),
])
def test_what_does_not_fit_is_refused_in_a_sentence(changes, message):
    with pytest.raises((SDDError, ValueError)) as error:
        build(**changes)
    assert message in str(error.value) and '\n' not in str(error.value)


@needs_mmaction
def test_channels_last_is_refused_for_a_teacher_of_clips():
    model = build(teacher_inference=dict(channels_last=True))
    with pytest.raises(
            SDDError, match='channels_last lays out images .* set '
            'it to False'):
        model(**model.data_preprocessor(batch()), mode='loss')


@needs_mmaction
def test_shapes_that_a_loss_leaves_open_are_not_looked_for_in_clips():
    loss = dict(
        type='ReviewLoss',
        student=dict(recorder='maps', from_student=True),
        teacher=dict(recorder='maps', from_student=False))
    maps = dict(maps=dict(type='StageMaps'))
    with pytest.raises(SDDError, match='set them yourself for a recognizer'):
        build(
            image_size=48,
            distiller=dict(
                type='SDDDistiller',
                student_recorders=maps,
                teacher_recorders=maps,
                distill_losses=dict(loss_review=dict(type='ReviewLoss')),
                loss_forward_mappings=dict(
                    loss_review=dict(
                        student=loss['student'], teacher=loss['teacher']))))


@needs_mmaction
def test_kd_takes_the_logits_of_heads_that_average_no_map():
    model = build(KD, architecture=i3d(spatial_type='max', in_channels=1024))
    assert model.distiller.student_recorders.recorders[
        'feature_head'].where == 'output of cls_head'


def other(backbone, head, kind='Recognizer3D'):
    """Another recognizer of mmaction2, small where it can be."""
    return dict(
        _scope_='mmaction',
        type=kind,
        backbone=dict(pretrained=None, **backbone),
        cls_head=dict(num_classes=3, topk=(1, ), **head))


PATHWAY = dict(
    type='resnet3d',
    depth=18,
    pretrained=None,
    conv1_stride_t=1,
    pool1_stride_t=1,
    norm_eval=False)
C2D = other(
    dict(type='C2D', depth=50, norm_eval=False),
    dict(type='I3DHead', in_channels=2048))
SWIN = other(
    dict(
        type='SwinTransformer3D',
        pretrained2d=False,
        arch=dict(embed_dims=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 3, 6])),
    dict(type='I3DHead', in_channels=192))
SLOWFAST = other(
    dict(
        type='ResNet3dSlowFast',
        resample_rate=4,
        speed_ratio=4,
        slow_pathway=dict(
            PATHWAY,
            lateral=True,
            conv1_kernel=(1, 7, 7),
            dilations=(1, 1, 1, 1),
            inflate=(0, 0, 1, 1),
            fusion_kernel=5),
        fast_pathway=dict(
            PATHWAY, lateral=False, base_channels=8, conv1_kernel=(5, 7, 7))),
    dict(type='SlowFastHead', in_channels=512 + 64))


@needs_mmaction
@pytest.mark.parametrize('teacher', [C2D, SWIN], ids=['c2d', 'swin'])
def test_others_with_the_head_of_i3d_have_cells(teacher):
    model = build(teacher=dict(teacher, data_preprocessor=clips.NORMALIZED))
    data = model.data_preprocessor(batch())
    assert model(**data, mode='loss')['distill.loss_distill'] > 0
    # the map was compared with the logits of the recognizer itself
    assert model.distiller.teacher_head.difference < 1e-4


@needs_mmaction
def test_kd_takes_the_logits_of_every_other_head():
    model = build(
        KD, teacher=dict(SLOWFAST, data_preprocessor=clips.NORMALIZED))
    data = model.data_preprocessor(batch())
    assert model(**data, mode='loss')['distill.loss_distill'] > 0
    with torch.no_grad():
        own = model.teacher(data['inputs'], stage='head')
        record = model.teacher_source.record(**data)
    assert torch.equal(record.logits(), own)
    with pytest.raises(SDDError, match='is not an I3DHead'):
        build(SDD, teacher=dict(SLOWFAST, data_preprocessor=clips.NORMALIZED))


@needs_mmaction
def test_kd_averages_the_frames_of_a_2d_recognizer_as_it_does():
    tsn = other(
        dict(type='ResNet', depth=18, norm_eval=False),
        dict(
            type='TSNHead',
            in_channels=512,
            consensus=dict(type='AvgConsensus', dim=1)), 'Recognizer2D')
    frames = dict(clips.NORMALIZED, format_shape='NCHW')
    model = build(
        KD,
        architecture=tsn,
        teacher=dict(tsn, data_preprocessor=frames),
        data_preprocessor=dict(frames, _scope_='mmaction'))
    data = batch()
    data['inputs'] = [clip[0].transpose(0, 1)[:3] for clip in data['inputs']]
    data = model.data_preprocessor(data)
    assert data['inputs'].shape == (4, 3, 3, 48, 48)
    record = model.teacher_source.record(**data)
    assert record.logits().shape == (4, 3)
    assert model(**data, mode='loss')['distill.loss_distill'] > 0
