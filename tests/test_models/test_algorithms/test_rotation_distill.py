# Copyright (c) sdd_mm contributors. All rights reserved.
"""SSKD and SD-SSKD: four views of every image, and a head of the teacher's."""
import copy

import pytest
import torch
import torch.nn.functional as F
from baselines import KD, LOGITS, rotation_distiller
from mmengine.runner import save_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from mmrazor.registry import MODELS
from recorded import Case, assert_recorded, cases
from toy import (PREPROCESSOR, batch, build, build_classifier, classifier,
                 losses)

from sdd_mm.functional import rotation_relations
from sdd_mm.functional.rotated_views import rotated_views
from sdd_mm.models.algorithms import TEACHER_META, TeacherError
from sdd_mm.models.algorithms.rotation_distill import black
from sdd_mm.models.losses import ViewLoss
from sdd_mm.models.losses.rotation_relation_loss import projection
from sdd_mm.models.records import FeatureHead
from sdd_mm.weights import select, weights_hash


def sdd(scales):
    return dict(type='ScaleDecoupledLoss', criterion=KD, scales=scales)


def rotation(*args, **kwargs):
    return build(
        type='RotationDistill',
        student_loss_weight=0.1,
        distiller=rotation_distiller(*args, **kwargs))


def literal_views(images, fill, padding):
    starts = torch.randint(2 * padding + 1, (2, 4 * len(images), 1))
    size, views = images.shape[-1], []
    for place, image in enumerate(images.repeat_interleave(4, 0)):
        image = torch.rot90(image, place % 4, (-2, -1))
        framed = [
            F.pad(channel, [padding] * 4, value=value.item())
            for channel, value in zip(image, fill)
        ]
        top, left = starts[:, place, 0]
        views.append(torch.stack(framed)[:, top:top + size, left:left + size])
    return torch.stack(views)


@pytest.mark.parametrize('padding', [0, 1, 4])
def test_views_equal_literal(padding):
    images, fill = torch.rand(3, 2, 8, 8), torch.tensor([-1.5, 2.])
    found = []
    for views in (rotated_views, literal_views):
        torch.manual_seed(padding)
        found.append(views(images, fill, padding))
    assert torch.equal(*found)
    assert found[0].shape == (12, 2, 8, 8)
    if not padding:
        assert torch.equal(found[0][::4], images)


def test_views_need_square_images():
    with pytest.raises(ValueError, match='square.*8, 6'):
        rotated_views(torch.rand(1, 3, 8, 6), torch.zeros(3))


def test_black_is_a_black_pixel_of_the_preprocessor():
    preprocessor = rotation(LOGITS).data_preprocessor
    data = dict(inputs=torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    found = preprocessor(data)['inputs']
    assert torch.equal(found[0, :, 0, 0], black(preprocessor))


def heads(name):
    """Student's and teacher's records of a recorded case."""
    recorded = Case(f'sskd/{name}')
    records = [
        FeatureHead(recorded[f'in/map_{role[0]}'],
                    recorded[f'param/{role}.classifier.weight'],
                    recorded[f'param/{role}.classifier.bias'])
        for role in ('student', 'teacher')
    ]
    records[0].feature.requires_grad_()
    return recorded, records


@pytest.mark.parametrize('name', cases('sskd'))
@pytest.mark.parametrize('views, key', [('normal', 'loss_kd'),
                                        ('rotated', 'loss_tf')])
def test_views_equal_recorded_sskd(name, views, key):
    recorded, records = heads(name)
    ratio = recorded['in/ratio_tf'].item() if views == 'rotated' else 1.
    loss = ViewLoss(LOGITS, views, ratio)
    found = loss(*records, recorded['in/target'])
    assert_recorded(found, recorded[f'step/out/{key}'])


@pytest.mark.parametrize('name', cases('sskd'))
@pytest.mark.parametrize('views, key', [('normal', 'loss_kd'),
                                        ('rotated', 'loss_tf')])
def test_views_equal_recorded_sd_sskd(name, views, key):
    recorded, records = heads(name)
    scales = tuple(recorded['sd/in/scales'].tolist())
    found = ViewLoss(sdd(scales), views)(*records, recorded['in/target'])
    assert_recorded(found, recorded[f'sd/out/{key}'])


@pytest.mark.parametrize('name', cases('sskd'))
def test_gradients_equal_recorded_sd_sskd(name):
    """What decoupling the normal views alone, or both, adds up to."""
    recorded, records = heads(name)
    target = recorded['in/target']
    scales = tuple(recorded['sd/in/scales'].tolist())
    ratio = recorded['in/ratio_tf'].item()
    if ratio < 1:
        pytest.skip('its recorded sum is over all rotated views')
    found = []
    for inner in (LOGITS, sdd(scales)):
        both = [
            torch.autograd.grad(
                ViewLoss(inner, views)(*records, target),
                records[0].feature)[0] for views in ('normal', 'rotated')
        ]
        found.append(both)
    plain, decoupled = found
    released = recorded['step/out/grad_map_s']
    normal = released + 0.9 * (decoupled[0] - plain[0])
    assert_recorded(normal, recorded['sd/out/grad_map_s_normal'], 1e-6)
    both = normal + 2.7 * (decoupled[1] - plain[1])
    assert_recorded(both, recorded['sd/out/grad_map_s_both'], 1e-6)


def test_a_step_is_the_sum_of_its_terms():
    torch.manual_seed(0)
    model = rotation(LOGITS)
    model.init_weights()
    model.eval()  # so that batch norm sees the same in any batch
    data = model.data_preprocessor(batch(4), training=True)
    torch.manual_seed(1)
    found = model(**data, mode='loss')
    assert set(found) == {
        'student.loss', 'distill.loss_kd', 'distill.loss_rotated',
        'distill.loss_relation'
    }
    torch.manual_seed(1)
    views = rotated_views(data['inputs'], black(model.data_preprocessor))
    student, teacher = (
        network(views, mode='tensor')
        for network in (model.student, model.teacher))
    label = torch.cat([sample.gt_label for sample in data['data_samples']])
    expected = 0.1 * F.cross_entropy(student[::4], label)
    assert found['student.loss'].item() == pytest.approx(expected.item())
    rows = 16 * F.kl_div(
        F.log_softmax(student / 4, 1),
        F.softmax(teacher / 4, 1),
        reduction='none').sum(1).unflatten(0, (-1, 4))
    for name, weight, part in (('kd', 0.9, rows[:, 0]), ('rotated', 2.7,
                                                         rows[:, 1:])):
        assert found[f'distill.loss_{name}'].item() == pytest.approx(
            weight * part.mean().item(), rel=1e-3)
    own = {
        id(p)
        for p in model.parameters()
        if p.requires_grad and not any(p is q
                                       for q in model.teacher.parameters())
    }
    sum(value for name, value in found.items() if 'loss' in name).backward()
    assert all(p.grad is not None for p in model.parameters() if id(p) in own)


def test_with_scale_1_alone_it_is_sskd():
    found = []
    for inner in (LOGITS, sdd((1, ))):
        torch.manual_seed(0)
        model = rotation(inner)
        model.init_weights()
        torch.manual_seed(1)
        values = losses(model)
        sum(values.values()).backward()
        found.append([p.grad for p in model.architecture.parameters()])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


def test_other_algorithms_have_no_views():
    model = build(distiller=rotation_distiller(LOGITS))
    with pytest.raises(ValueError, match='RotationDistill'):
        losses(model)


def test_images_are_validated_as_they_are():
    model = rotation(LOGITS).eval()
    data = model.data_preprocessor(batch(4))
    found = model(**data, mode='predict')
    expected = model.student(data['inputs'], mode='tensor').softmax(1)
    assert torch.allclose(
        torch.stack([sample.pred_score for sample in found]), expected)


@pytest.fixture
def teacher(tmp_path):
    """A teacher and the checkpoint of it."""
    torch.manual_seed(3)
    model = build_classifier(width=8)
    path = str(tmp_path / 'teacher.pth')
    save_checkpoint(dict(meta={}, state_dict=get_state_dict(model)), path)
    return model, path


def head(path):
    return MODELS.build(
        dict(
            type='RotationHead',
            _scope_='mmrazor',
            teacher=classifier(width=8, data_preprocessor=PREPROCESSOR),
            teacher_ckpt=path,
            channels=32,
            data_preprocessor=copy.deepcopy(PREPROCESSOR)))


def saved(model, tmp_path, **meta):
    path = str(tmp_path / 'head.pth')
    save_checkpoint(
        dict(
            meta={TEACHER_META: model.teacher_hash} | meta,
            state_dict=get_state_dict(model)), path)
    return path


def test_a_head_learns_and_its_teacher_does_not(teacher, tmp_path):
    torch.manual_seed(0)
    model = head(teacher[1])
    model.init_weights()
    model.train()
    data = model.data_preprocessor(batch(8), training=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1)
    before = weights_hash(model.teacher)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        torch.manual_seed(1)
        loss = model(**data, mode='loss')['loss']
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.05
    assert weights_hash(model.teacher) == before == model.teacher_hash
    assert set(get_state_dict(model)) == {
        f'head.{layer}.{name}'
        for layer in (0, 2)
        for name in ('weight', 'bias')
    }


@pytest.mark.parametrize('name', cases('sskd'))
def test_the_head_equals_the_recorded_one(name):
    recorded = Case(f'sskd/{name}')
    pooled = recorded['in/map_t'].mean((2, 3))
    module = projection(pooled.shape[1]).double()
    weights = select(recorded.below('param'), 'teacher.proj_head.')
    module.load_state_dict(weights)
    relations = rotation_relations(module(pooled))
    loss = F.cross_entropy(relations, torch.arange(len(relations)) // 3)
    assert_recorded(loss, recorded['head/out/value'])
    loss.backward()
    for key, parameter in module.named_parameters():
        assert_recorded(parameter.grad,
                        recorded[f'head/out/grad_param/proj_head.{key}'], 1e-6)


def student_of(teacher, **relation):
    return build(
        type='RotationDistill',
        teacher_ckpt=teacher[1],
        allow_untrained_teacher=False,
        distiller=rotation_distiller(LOGITS, **relation))


def test_a_head_is_loaded_with_its_teacher(teacher, tmp_path):
    trained = head(teacher[1])
    trained.init_weights()
    model = student_of(teacher, teacher_head=saved(trained, tmp_path))
    model.init_weights()
    found = model.distiller.distill_losses['loss_relation']
    for name, value in trained.head.state_dict().items():
        assert torch.equal(found.teacher_projection.state_dict()[name], value)
    assert not any(p.requires_grad
                   for p in found.teacher_projection.parameters())


def test_no_head_or_a_foreign_one_is_refused(teacher, tmp_path):
    with pytest.raises(TeacherError, match='teacher_head is None.*RotationHe'):
        student_of(teacher).init_weights()
    with pytest.raises(TeacherError, match='teacher_head.*nowhere.pth'):
        student_of(teacher, teacher_head='nowhere.pth').init_weights()
    with pytest.raises(TeacherError, match='does not fit.*RotationHead'):
        student_of(teacher, teacher_head=teacher[1]).init_weights()
    trained = head(teacher[1])
    trained.init_weights()
    path = saved(trained, tmp_path, **{TEACHER_META: 'another'})
    with pytest.raises(TeacherError, match='another teacher.*SHA-256 another'):
        student_of(teacher, teacher_head=path).init_weights()
