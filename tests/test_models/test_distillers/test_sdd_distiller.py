# Copyright (c) sdd_mm contributors. All rights reserved.
import pytest
import torch
from mmrazor.registry import MODELS
from toy import (PREPROCESSOR, algorithm, batch, build, build_classifier,
                 classifier, losses, sdd_loss)

from sdd_mm.models.algorithms import TeacherError
from sdd_mm.models.recorders import FeatureHeadError, FeatureHeadRecorder


def distiller(**kwargs):
    return MODELS.build(dict(type='SDDDistiller', **kwargs))


def test_adds_what_the_config_left_out():
    found = distiller(distill_losses=dict(loss_sdd=sdd_loss()))
    assert sorted(
        found.student_recorders.recorders) == ['feature_head', 'target']
    assert list(found.teacher_recorders.recorders) == ['feature_head']
    mapping = found.loss_forward_mappings['loss_sdd']
    assert mapping['student'] == dict(
        recorder='feature_head', from_student=True)
    assert mapping['teacher'] == dict(
        recorder='feature_head', from_student=False)
    assert mapping['target'] == dict(recorder='target', from_student=True)


def test_replaces_nothing_that_the_config_gives():
    mine = dict(type='FeatureHead', pooling='neck.gap', head='head.fc')
    found = distiller(
        student_recorders=dict(feature_head=mine, other=mine),
        distill_losses=dict(loss_sdd=sdd_loss()),
        loss_forward_mappings=dict(
            loss_sdd=dict(student=dict(recorder='other', from_student=True))))
    recorders = found.student_recorders.recorders
    assert recorders['feature_head'].pooling == 'neck.gap'
    mapping = found.loss_forward_mappings['loss_sdd']
    assert mapping['student']['recorder'] == 'other'
    assert mapping['teacher']['recorder'] == 'feature_head'


def test_adds_nothing_that_no_loss_asks_for():
    found = distiller()
    assert not found.student_recorders.recorders
    assert not found.loss_forward_mappings


def test_a_loss_that_would_never_run_is_refused():
    with pytest.raises(ValueError, match="'loss_kl'.*never be computed"):
        distiller(distill_losses=dict(loss_kl=dict(type='KLDivergence')))


def test_a_loss_that_would_only_be_logged_is_refused():
    with pytest.raises(ValueError, match="'sdd' .*logged but not trained"):
        distiller(distill_losses=dict(sdd=sdd_loss()))


def test_folded_batch_norms_are_refused_beside_other_recorders():
    """They would record the convolution and its batch norm in one."""
    kwargs = dict(
        type='SDDDistiller',
        teacher_recorders=dict(
            map=dict(type='ModuleOutputs', source='backbone.conv1')),
        distill_losses=dict(loss_sdd=sdd_loss()))
    build(distiller=kwargs)
    with pytest.raises(TeacherError, match='teacher_inference.fold_bn'):
        build(distiller=kwargs, teacher_inference=dict(fold_bn=True))


def test_another_mmrazor_loss_stands_beside():
    logits = dict(type='ModuleOutputs', source='head.fc')
    model = build(
        distiller=dict(
            type='SDDDistiller',
            student_recorders=dict(logits=logits),
            teacher_recorders=dict(logits=logits),
            distill_losses=dict(
                loss_sdd=sdd_loss(), loss_kl=dict(type='KLDivergence', tau=4)),
            loss_forward_mappings=dict(
                loss_kl=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False)))))
    found = losses(model)
    assert {'distill.loss_sdd', 'distill.loss_kl'} <= set(found)


def test_refusal_names_the_role_and_the_config_key():
    wrong = classifier(
        neck=dict(type='GeneralizedMeanPooling'),
        data_preprocessor=PREPROCESSOR)
    with pytest.raises(FeatureHeadError) as info:
        build(teacher=wrong)
    assert 'teacher: ' in str(info.value)
    assert 'model.distiller.teacher_recorders.feature_head' in str(info.value)


def test_records_do_not_outlive_the_losses():
    model = build()
    losses(model)
    for manager in (model.distiller.student_recorders,
                    model.distiller.teacher_recorders):
        for recorder in manager.recorders.values():
            assert recorder.data_buffer == []


def stock(record_head, map_head):
    """MMRazor's own classes, wired by hand."""
    return dict(
        type='SingleTeacherDistill',
        _scope_='mmrazor',
        architecture=dict(_scope_='mmpretrain', **classifier()),
        teacher=build_classifier(width=8),
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=dict(
                head=record_head, target=dict(type='Target')),
            teacher_recorders=dict(head=record_head),
            distill_losses=dict(loss_sdd=sdd_loss('DKDCriterion')),
            loss_forward_mappings=dict(
                loss_sdd=dict(
                    student=dict(from_student=True, **map_head),
                    teacher=dict(from_student=False, **map_head),
                    target=dict(recorder='target', from_student=True)))),
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor', **PREPROCESSOR))


def test_same_loss_and_recorder_in_a_stock_config():
    """End to end: optimizer steps lower the loss that ours computes too."""
    torch.manual_seed(0)
    model = MODELS.build(
        stock(dict(type='FeatureHead'), dict(recorder='head')))
    model.teacher.eval()
    ours = MODELS.build(
        algorithm(
            teacher=model.teacher,
            on_normalization_mismatch='ignore',
            distiller=dict(
                type='SDDDistiller',
                distill_losses=dict(loss_sdd=sdd_loss('DKDCriterion')))))
    ours.architecture.load_state_dict(model.architecture.state_dict())
    found, expected = losses(model), losses(ours)
    torch.testing.assert_close(found['distill.loss_sdd'],
                               expected['distill.loss_sdd'])
    torch.testing.assert_close(found['student.loss'], expected['student.loss'])
    optimizer = torch.optim.SGD(model.architecture.parameters(), 0.05)
    first = found['distill.loss_sdd'].item()
    for _ in range(15):
        loss = losses(model, batch())['distill.loss_sdd']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * first
    recorder = model.distiller.student_recorders.get_recorder('head')
    assert isinstance(recorder, FeatureHeadRecorder)
