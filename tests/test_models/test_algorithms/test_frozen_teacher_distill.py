# Copyright (c) sdd_mm contributors. All rights reserved.
import copy
from collections import OrderedDict

import pytest
import torch
from mmengine.hub import get_config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.runner.checkpoint import (get_state_dict, load_state_dict,
                                        save_checkpoint)
from mmrazor.registry import MODELS
from torch import nn
from toy import (PREPROCESSOR, algorithm, batch, build, build_classifier,
                 classifier, losses, sdd_loss, skip_without_autocast)

from sdd_mm.models.algorithms import TeacherError

TEACHER = classifier(width=8, data_preprocessor=PREPROCESSOR)


@pytest.fixture
def checkpoint(tmp_path):
    """A teacher's checkpoint in MMPretrain's format."""
    torch.manual_seed(1)
    model = build_classifier(width=8)
    path = tmp_path / 'teacher.pth'
    save_checkpoint(
        dict(meta=dict(), state_dict=get_state_dict(model)), str(path))
    return path


def with_teacher(path, **kwargs):
    return build(
        teacher_ckpt=str(path), allow_untrained_teacher=False, **kwargs)


def edit(path, change):
    content = torch.load(path)
    change(content['state_dict'])
    torch.save(content, path)


def test_teacher_is_loaded_by_init_weights(checkpoint):
    model = with_teacher(checkpoint)
    expected = torch.load(checkpoint)['state_dict']
    assert model.teacher_hash is None
    model.init_weights()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert len(model.teacher_hash) == 64


def test_hash_tells_teachers_apart(checkpoint):
    hashes = []
    for _ in range(2):
        model = with_teacher(checkpoint)
        model.init_weights()
        hashes.append(model.teacher_hash)
        edit(checkpoint, lambda state: state['head.fc.bias'].add_(1e-3))
    assert hashes[0] != hashes[1]


def test_teacher_without_weights_is_an_error():
    with pytest.raises(TeacherError, match='model.teacher_ckpt'):
        build(allow_untrained_teacher=False).init_weights()


@pytest.mark.parametrize('change, message', [
    (lambda s: s.pop('head.fc.bias'), '1 weight is missing: head.fc.bias'),
    (lambda s: s.update(extra=torch.zeros(1)),
     '1 weight is not in the model: extra'),
    (lambda s: s.update({'head.fc.bias': torch.zeros(7)}),
     r'of another shape: head.fc.bias \(7,\) instead of \(10,\)'),
    (lambda s: s['head.fc.bias'].fill_(float('nan')),
     'not finite floating point numbers: head.fc.bias'),
])
def test_checkpoint_that_does_not_fit_is_an_error(checkpoint, change, message):
    edit(checkpoint, change)
    with pytest.raises(TeacherError, match=f'(?s){message}') as info:
        with_teacher(checkpoint).init_weights()
    assert 'model.teacher_ckpt' in str(info.value)


def test_absent_and_corrupt_checkpoints_are_errors(tmp_path, checkpoint):
    with pytest.raises(TeacherError, match='nowhere.pth does not exist'):
        with_teacher('nowhere.pth').init_weights()
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TeacherError, match='cannot be read'):
        with_teacher(broken).init_weights()
    torch.save([1, 2], broken)
    with pytest.raises(TeacherError, match='no state dict'):
        with_teacher(broken).init_weights()


def test_prefixes_of_wrappers_and_of_our_own_checkpoints(tmp_path, checkpoint):
    state = torch.load(checkpoint)['state_dict']
    for prefix in ('module.', 'architecture.'):
        path = tmp_path / 'prefixed.pth'
        torch.save({
            prefix + name: value
            for name, value in state.items()
        }, path)
        model = with_teacher(path)
        model.init_weights()
        assert torch.equal(model.teacher.head.fc.weight,
                           state['head.fc.weight'])


class Noisy(nn.Module):
    """Dropout and drop path in one: only eval makes it the identity."""

    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x


def test_whole_teacher_stays_in_eval():
    model = build()
    model.teacher.backbone.noise = Noisy()
    model.teacher.backbone.drop = nn.Dropout(0.5)
    assert model.train() is model
    assert model.architecture.training
    assert not any(m.training for m in model.teacher.modules())
    before = copy.deepcopy(model.teacher.state_dict())
    losses(model)
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_teacher_runs_without_its_loss(monkeypatch):
    model = build()

    def fail(*args, **kwargs):
        raise AssertionError('the teacher computed its loss')

    monkeypatch.setattr(model.teacher.head, 'loss', fail)
    found = losses(model)
    assert set(found) == {'student.loss', 'distill.loss_sdd'}


def test_student_loss_weight_scales_the_cross_entropy_only():
    one, tenth = build(), build(student_loss_weight=0.1)
    tenth.architecture.load_state_dict(one.architecture.state_dict())
    tenth.teacher.load_state_dict(one.teacher.state_dict())
    a, b = losses(one), losses(tenth)
    torch.testing.assert_close(0.1 * a['student.loss'], b['student.loss'])
    torch.testing.assert_close(a['distill.loss_sdd'], b['distill.loss_sdd'])


def test_teacher_is_in_no_state_dict():
    model = build()
    for state in (model.state_dict(), get_state_dict(model)):
        assert state
        assert not [name for name in state if name.startswith('teacher.')]
    assert [n for n, _ in model.named_parameters() if n.startswith('teacher.')]


@pytest.mark.parametrize('load', [
    lambda model, state: model.load_state_dict(state),
    lambda model, state: load_state_dict(model, state, strict=True)
])
def test_loading_neither_misses_nor_changes_the_teacher(load):
    model, other = build(), build()
    teacher = copy.deepcopy(model.teacher.state_dict())
    state = OrderedDict(other.state_dict())
    load(model, state)
    # a checkpoint of MMRazor's own algorithm brings a teacher along
    state.update({
        f'teacher.{name}': value + 1
        for name, value in other.teacher.state_dict().items()
    })
    load(model, state)
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, teacher[name]), name
    assert torch.equal(model.architecture.head.fc.weight,
                       other.architecture.head.fc.weight)
    state.pop('architecture.head.fc.bias')
    with pytest.raises(RuntimeError, match='architecture.head.fc.bias'):
        load(model, state)


@pytest.mark.parametrize('update_buffers', [False, True])
def test_ema_shares_the_teacher(update_buffers):
    model = build()
    ema = ExponentialMovingAverage(
        model, momentum=0.5, update_buffers=update_buffers)
    assert ema.module.teacher is model.teacher
    assert ema.module.architecture is not model.architecture
    teacher = copy.deepcopy(model.teacher.state_dict())
    first = model.architecture.head.fc.bias.detach().clone()
    ema.update_parameters(model)
    with torch.no_grad():
        model.architecture.head.fc.bias.add_(1)
    ema.update_parameters(model)
    torch.testing.assert_close(ema.module.architecture.head.fc.bias,
                               first + 0.5)
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, teacher[name]), name
    assert not [name for name in ema.state_dict() if 'teacher.' in name]


def test_a_copy_after_a_forward_works_on_its_own():
    model = build()
    losses(model)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(
        losses(twin)['distill.loss_sdd'],
        losses(model)['distill.loss_sdd'])


def test_class_counts_must_agree():
    with pytest.raises(TeacherError, match='has 7 classes.*Classifier 10'):
        build(
            teacher=classifier(num_classes=7, data_preprocessor=PREPROCESSOR))


OTHER = dict(num_classes=10, mean=[100.0] * 3, std=[50.0] * 3, to_rgb=True)


def test_normalisation_must_agree():
    other = classifier(width=8, data_preprocessor=OTHER)
    with pytest.raises(TeacherError, match='on_normalization_mismatch'):
        build(teacher=other)
    with pytest.raises(ValueError, match='on_normalization_mismatch'):
        build(on_normalization_mismatch='maybe')


def test_normalisation_must_be_stated():
    with pytest.raises(TeacherError, match='model.teacher.data_preprocessor'):
        build(teacher=classifier(width=8))
    with pytest.raises(TeacherError, match='model.teacher.data_preprocessor'):
        build(teacher=build_classifier(width=8))
    build(teacher=classifier(width=8), on_normalization_mismatch='ignore')


def test_channel_order_counts_without_a_normalisation_too():
    with pytest.raises(TeacherError, match='on_normalization_mismatch'):
        build(
            teacher=classifier(data_preprocessor=dict(to_rgb=True)),
            data_preprocessor=dict(to_rgb=False))
    build(
        teacher=classifier(data_preprocessor=dict(to_rgb=True)),
        data_preprocessor=dict(to_rgb=True))


def teacher_sees(model, data):
    seen = []
    model.teacher.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    losses(model, data)
    return seen[0]


def test_mismatch_may_be_converted_or_ignored():
    data = batch()
    model = build(
        teacher=classifier(width=8, data_preprocessor=OTHER),
        on_normalization_mismatch='convert')
    expected = model.teacher.data_preprocessor(batch())['inputs']
    torch.testing.assert_close(
        teacher_sees(model, data), expected, atol=1e-5, rtol=1e-5)
    model = build(
        teacher=classifier(width=8, data_preprocessor=OTHER),
        on_normalization_mismatch='ignore')
    torch.testing.assert_close(
        teacher_sees(model, batch()),
        model.data_preprocessor(batch())['inputs'])


def test_teacher_by_mmpretrain_config_brings_its_normalisation():
    imagenet = dict(
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True)
    build(
        architecture=classifier(num_classes=1000),
        teacher=dict(
            cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py',
            pretrained=False),
        data_preprocessor=imagenet)


@pytest.mark.parametrize('wrong', [
    dict(teacher_trainable=True),
    dict(student_trainable=False),
])
def test_what_contradicts_the_name_is_refused(wrong):
    with pytest.raises(TeacherError, match='can only be'):
        build(**wrong)


@pytest.mark.parametrize('kind', [
    dict(type='ClsDataPreprocessor'),
    dict(type='mmpretrain.ClsDataPreprocessor'),
    dict(),
])
def test_data_preprocessor_with_any_type_or_none(kind):
    model = build(data_preprocessor=dict(PREPROCESSOR, **kind))
    expected = 'ClsDataPreprocessor' if kind else 'AsyncClsDataPreprocessor'
    assert type(model.data_preprocessor).__name__ == expected
    assert model.data_preprocessor.mean.flatten().tolist() == [128.0] * 3


def test_stopping_distillation_stops_the_teacher():
    model = build()
    model.distillation_stopped = True
    model.teacher.register_forward_pre_hook(
        lambda *args: pytest.fail('the teacher ran'))
    assert set(losses(model)) == {'student.loss'}


def test_zero_weight_is_training_without_distillation():
    """The student's gradients do not know that a teacher is there."""
    model = build()
    model.distiller.distill_losses['loss_sdd'].loss_weight = 0.0
    plain = build_classifier()
    plain.load_state_dict(model.architecture.state_dict())
    sum(losses(model).values()).backward()
    data = model.data_preprocessor(batch(), training=True)
    plain.train()(**data, mode='loss')['loss'].backward()
    for (name, a), b in zip(model.architecture.named_parameters(),
                            plain.parameters()):
        assert torch.equal(a.grad, b.grad), name


def test_predictions_are_the_students():
    model = build().eval()
    data = model.data_preprocessor(batch())
    expected = model.architecture(data['inputs'], mode='tensor')
    torch.testing.assert_close(model(data['inputs'], mode='tensor'), expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_step_is_finite_and_close(dtype):
    skip_without_autocast(dtype)
    model = build()
    expected = losses(model)['distill.loss_sdd']
    with torch.autocast('cpu', dtype=dtype):
        found = losses(model)['distill.loss_sdd']
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=1e-1)
    found.backward()
    assert all(p.grad.isfinite().all()
               for p in model.architecture.parameters() if p.grad is not None)


def test_built_by_type_from_the_registry():
    assert MODELS.build(algorithm()).student is not None


def test_keys_beside_cfg_path_would_be_lost_and_are_refused():
    teacher = dict(
        cfg_path='mmpretrain::resnet/resnet18_8xb16_cifar10.py',
        head=dict(num_classes=7))
    with pytest.raises(TeacherError, match="'head'.*no effect"):
        build(teacher=teacher)


def test_a_ready_teacher_is_taken_as_it_is():
    teacher = build_classifier(width=8, data_preprocessor=PREPROCESSOR)
    expected = copy.deepcopy(teacher.state_dict())
    model = build(teacher=teacher, allow_untrained_teacher=False)
    model.init_weights()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize('content', [b'hello\n', b'', b'\x80\x02junk'])
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / 'teacher.pth'
    path.write_bytes(content)
    with pytest.raises(TeacherError, match='cannot be read'):
        with_teacher(path).init_weights()


def test_layer_wise_decay_is_the_students():
    """MMPretrain's recipes for ConvNeXt and ViT decay by layer."""
    student = dict(
        type='ImageClassifier',
        backbone=dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 2], channels=[4, 8]),
            out_indices=(1, )),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=8))
    model = build(
        architecture=student,
        distiller=dict(
            type='SDDDistiller',
            student_recorders=dict(feature_head=dict(type='RegionHead')),
            distill_losses=dict(loss_sdd=sdd_loss())))
    wrapper = dict(
        optimizer=dict(type='SGD', lr=1.0, weight_decay=1e-4),
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5))
    found, own = ([(group['param_name'].replace('architecture.',
                                                ''), group['lr'])
                   for group in build_optim_wrapper(part, copy.deepcopy(
                       wrapper)).optimizer.param_groups]
                  for part in (model, model.student))
    assert found == own
    assert len({lr for _, lr in own}) > 2
    assert model.get_layer_depth('distiller.connectors.x.weight') == (
        model.student.get_layer_depth('head.fc.weight'))


@pytest.mark.parametrize('update_buffers', [False, True])
def test_ema_goes_on_when_batch_norms_are_folded(update_buffers):
    model = build(teacher_inference=dict(fold_bn=True))
    average = ExponentialMovingAverage(
        model, momentum=0.5, update_buffers=update_buffers)
    losses(model)
    average.update_parameters(model)  # the first one copies
    for weight in model.student.parameters():
        weight.data.add_(1.)
    average.update_parameters(model)
    own = dict(model.student.named_parameters())
    for name, value in average.module.student.named_parameters():
        assert not torch.equal(value, own[name]), name
    assert average.module.teacher is model.teacher


def test_discarded_copies_leave_no_hooks_on_the_teacher():

    def hooks():
        return sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks)
            for module in model.teacher.modules())

    model = build()
    losses(model)
    before = hooks()
    for _ in range(5):
        copy.deepcopy(model)
    assert hooks() == before
    # one that distills listens for itself
    copied = copy.deepcopy(model)
    copied.eval(), model.eval()
    data = model.data_preprocessor(batch())
    torch.testing.assert_close(
        copied(**data, mode='loss'), model(**data, mode='loss'))


def test_a_student_by_path_keeps_its_batch_augmentations():
    """As the same file does as a base."""
    path = 'mmpretrain::resnet/resnet50_8xb16-mixup_cifar10.py'
    for architecture in (dict(cfg_path=path),
                         dict(cfg_path=path,
                              pretrained=False), get_config(path).model):
        model = build(architecture=architecture)
        data = model.data_preprocessor(batch(), training=True)
        assert 'gt_score' in data['data_samples'][0], architecture


def test_another_distiller_is_refused_with_the_key():
    with pytest.raises(TeacherError, match="model.distiller.type='SDDDist"):
        build(distiller=dict(type='ConfigurableDistiller'))


def test_without_teacher_inference_autocast_acts_on_the_teacher():
    """As the docstring of ``teacher_inference.dtype`` says."""
    model = build()
    losses(model)
    data = model.data_preprocessor(batch(), training=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        record = model.teacher_source.record(**data)
    assert record.feature.dtype == torch.bfloat16
