# Copyright (c) sdd_mm contributors. All rights reserved.
"""A teacher that sees the batch at another size."""
import copy
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from baselines import distiller
from mmpretrain.registry import DATASETS
from PIL import Image
from toy import PREPROCESSOR, batch, build, classifier, losses

from sdd_mm.models.algorithms import Resize, TeacherError
from sdd_mm.models.algorithms.teacher_input import TeacherInputError
from sdd_mm.teacher_cache import TeacherCache
from sdd_mm.teacher_cache.cacheable import normalization_key

ROOT = Path(__file__).resolve().parents[3]
OTHER = dict(PREPROCESSOR, mean=[100.0, 110.0, 120.0], to_rgb=True)


def resized(scale=48, **kwargs):
    torch.manual_seed(0)
    model = build(teacher_input=dict(type='Resize', scale=scale), **kwargs)
    model.init_weights()
    return model


@pytest.mark.parametrize('size', [(48, 64), (20, 20), (32, 32)])
@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
def test_it_resizes_as_pillow_does(size, mode):
    """Pillow's, on images of one channel of float32."""
    images = torch.rand(2, 3, 32, 32)
    found = Resize(size, mode)(images)
    assert found.shape == (2, 3, *size)
    method = dict(
        bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)
    for image, wanted in zip(found.flatten(0, 1), images.flatten(0, 1)):
        picture = Image.fromarray(wanted.numpy())
        whole = np.array(picture.resize(size[::-1], method[mode]))
        # bicubic kernels differ in their constant: -0.75 and -0.5
        tolerance = 1e-5 if mode == 'bilinear' else 0.15
        assert np.abs(image.numpy() - whole).max() < tolerance
    assert Resize(8)(images.half()).dtype == torch.half


@pytest.mark.parametrize('scale', [48, (24, 40)])
def test_the_teacher_sees_the_batch_at_its_size(scale):
    model, seen = resized(scale), []
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    found = losses(model)
    images = model.data_preprocessor(batch(), True)['inputs']
    assert torch.equal(seen[-1], Resize(scale)(images))
    plain = copy.deepcopy(model)
    plain.convert = plain.teacher_source.convert = None
    other = losses(plain)
    assert found['student.loss'] == other['student.loss']
    assert found['distill.loss_sdd'] != other['distill.loss_sdd']


def test_the_same_size_is_the_same_run():
    wanted = build()
    torch.manual_seed(0)
    wanted.init_weights()
    model = resized(32)
    model.load_state_dict(wanted.state_dict())
    model.teacher.load_state_dict(wanted.teacher.state_dict())
    for name, loss in losses(wanted).items():
        torch.testing.assert_close(losses(model)[name], loss)


def test_its_own_normalization_acts():
    teacher = classifier(width=8, data_preprocessor=OTHER)
    with pytest.raises(TeacherError, match='on_normalization_mismatch'):
        build(teacher=teacher)
    model = resized(teacher=teacher)
    data = batch()
    student = model.data_preprocessor(data, True)['inputs']
    own = model.teacher.data_preprocessor(data, True)['inputs']
    torch.testing.assert_close(
        model.teacher_images(student), Resize(48)(own), rtol=0, atol=1e-5)


def test_it_is_cached_by_its_size():
    scenes = dict(
        type='DigitScenes',
        split='train',
        num_scenes=8,
        pipeline=[dict(type='PackInputs')])
    images = DATASETS.build(dict(type='InMemoryDataset', dataset=scenes))
    model = resized()
    data = images.batch(range(8), [0] * 8)
    data = model.data_preprocessor(data, True)
    model.train()
    state = copy.deepcopy(model.state_dict())
    live = model(**data, mode='loss')
    model.load_state_dict(state)
    model.teacher_source = TeacherCache(model, images)
    cached = model(**data, mode='loss')
    for name, loss in live.items():
        torch.testing.assert_close(cached[name], loss, rtol=1e-3, atol=1e-5)
    keys = [normalization_key(one) for one in (model, resized(64), build())]
    assert len(set(map(str, keys))) == 3


def test_shapes_are_found_at_both_sizes():
    config = copy.deepcopy(distiller('fitnet'))
    for key in ('student_shape', 'teacher_shape'):
        config['connectors']['hint'].pop(key)
    model = build(
        distiller=config,
        image_size=32,
        teacher_input=dict(type='Resize', scale=64))
    hint = model.distiller.connectors['hint']
    model.init_weights()
    losses(model)['distill.loss_own'].backward()
    assert all(p.grad is not None for p in hint.parameters())


@pytest.mark.parametrize('given, message', [
    (dict(type='Resize', scale=0), 'scale must be a positive'),
    (dict(type='Resize', scale=(2, 3, 4)), 'scale must be a positive'),
    (dict(type='Resize', scale=4, mode='nearest'), 'mode must be one of'),
    (dict(type='Resize'), 'scale must be a positive'),
    (dict(type='Resize', scale=True), 'scale must be a positive'),
    (dict(type='Resize', scale=96.), 'scale must be a positive'),
    (dict(type='Resize', size=96), 'takes scale and mode, not size'),
    (96, "must be dict.type='Resize', scale=.*96"),
    (dict(type='Crop'), "must be dict.type='Resize', scale=.*'Crop'"),
])
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(TeacherInputError, match=message):
        build(teacher_input=given)


def test_a_training(tmp_path):
    result = commands.run(ROOT / 'tools' / 'train.py',
                          ROOT / 'configs' / 'demo' / 'sd-kd.py', '--smoke',
                          '3', '--work-dir', tmp_path, '--cfg-options',
                          'model.teacher_input.type=Resize',
                          'model.teacher_input.scale=48')
    assert result.returncode == 0, result.stdout
    assert 'teacher: map 12 x 12' in result.stdout
    assert 'student: map 8 x 8' in result.stdout
