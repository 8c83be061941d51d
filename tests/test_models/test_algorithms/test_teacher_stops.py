# Copyright (c) sdd_mm contributors. All rights reserved.
"""A teacher whose map is all that is needed runs no further."""
from copy import deepcopy

import pytest
import torch
from baselines import distiller
from mmengine.model import ExponentialMovingAverage
from mmrazor.registry import MODELS
from toy import PREPROCESSOR, algorithm, batch, build, classifier, losses

from sdd_mm.models.recorders import FeatureHeadRecorder

TEACHER = classifier(width=8, data_preprocessor=PREPROCESSOR)
STAGES = classifier(data_preprocessor=PREPROCESSOR)
STAGES['backbone'] = dict(
    type='ResNet', depth=18, num_stages=4, out_indices=(0, 1, 2, 3))
STAGES['head']['in_channels'] = 512


def count(model, *names, begun=False):
    """How often modules of the teacher run to their end, or begin."""
    calls = dict.fromkeys(names, 0)

    def note(name):

        def hook(*args):
            calls[name] += 1

        return hook

    for name in names:
        module = model.teacher.get_submodule(name)
        (module.register_forward_pre_hook
         if begun else module.register_forward_hook)(
             note(name))
    return calls


def recorder_of(model):
    return model.distiller.teacher_recorders.get_recorder('feature_head')


@pytest.mark.parametrize(
    'teacher', [TEACHER, STAGES], ids=['one map', 'four stages'])
def test_head_runs_once(teacher):
    torch.manual_seed(0)
    model = build(teacher=teacher)
    whole = deepcopy(model)
    recorder_of(whole).stop_at_map = False
    calls = count(model, 'backbone', 'neck', 'neck.gap', 'head.fc')
    for step in range(3):
        ours = losses(model, batch(seed=step, size=64))
        expected = losses(whole, batch(seed=step, size=64))
        assert ours.keys() == expected.keys()
        for name in ours:
            assert torch.equal(ours[name], expected[name]), name
    stages = 4 if teacher is STAGES else 1
    # a pre-hook ends the last pooling, so that the others run; each recorder
    # checks its map in one more forward pass
    assert calls == {
        'backbone': 8, 'neck': 6, 'neck.gap': stages * 6 + 2 * (stages - 1),
        'head.fc': 6
    }  # yapf: disable


def test_gradients_are_the_same():
    gradients = []
    for stops in (True, False):
        torch.manual_seed(0)
        model = build()
        recorder_of(model).stop_at_map = stops
        for step in range(2):
            model.zero_grad()
            sum(v for k, v in losses(model, batch(seed=step)).items()
                if 'loss' in k).backward()
        gradients.append([p.grad for p in model.student.parameters()])
    assert all(map(torch.equal, *gradients))


def test_eval_and_a_call_of_the_teacher_run_fully():
    model = build()
    losses(model)
    losses(model)
    model.eval()
    data = model.data_preprocessor(batch())
    assert model(**data, mode='predict')[0].pred_score.shape == (10, )
    assert model.teacher(**data, mode='tensor').shape == (4, 10)
    assert model.teacher(**data, mode='predict')[0].pred_score.shape == (10, )


def test_copies_train_and_evaluate():
    model = build()
    losses(model)
    average = ExponentialMovingAverage(model)
    calls = count(model, 'head.fc')
    first, second = losses(average.module), losses(model)
    for name in first:
        torch.testing.assert_close(first[name], second[name])
    # the copy's map is checked already
    assert calls == {'head.fc': 0}
    data = average.module.data_preprocessor(batch())
    average.module.eval()
    assert len(average.module(**data, mode='predict')) == 4


@pytest.mark.parametrize('recorders, deliveries', [
    (dict(feature_head=dict(type='RegionHead')), None),
    (dict(
        feature_head=dict(type='FeatureHead'),
        logits=dict(type='ModuleOutputs', source='head.fc')), None),
    (None,
     dict(
         thing=dict(
             type='FunctionOutputs', max_keep_data=1, func_path='toy.batch'))),
])
def test_who_needs_more_gets_it(recorders, deliveries):
    distiller = dict(
        algorithm()['distiller'],
        teacher_recorders=recorders,
        distill_deliveries=deliveries)
    model = build(distiller=distiller)
    assert not recorder_of(model).stop_at_map
    calls = count(model, 'head.fc')
    losses(model)
    before = calls['head.fc']
    losses(model)
    assert calls['head.fc'] > before


def test_mmrazors_own_teacher_runs_on():
    config = algorithm(
        type='SingleTeacherDistill', teacher=classifier(width=8))
    del config['allow_untrained_teacher']
    for key in ('architecture', 'teacher'):
        config[key] = dict(config[key], _scope_='mmpretrain')
    config['data_preprocessor'] = dict(
        PREPROCESSOR, type='mmpretrain.ClsDataPreprocessor')
    model = MODELS.build(config)
    calls = count(model, 'head.fc')
    for step in range(3):
        losses(model)
    assert calls['head.fc'] >= 3
    recorder = recorder_of(model)
    assert isinstance(recorder, FeatureHeadRecorder)
    assert not recorder.stop_at_map


@pytest.mark.parametrize('name, runs', [('fitnet', False), ('reviewkd', True),
                                        ('sp', True), ('semckd', True)])
def test_stages_after_the_last_that_is_needed_do_not_run(name, runs):
    """FitNet compares the second of three stages."""
    torch.manual_seed(0)
    model = build(distiller=distiller(name))
    whole = deepcopy(model)
    copied = whole.distiller.teacher_recorders.get_recorder('features')
    copied.stop_after = None
    names = 'backbone.layer2', 'backbone.layer3', 'head.fc'
    calls = count(model, *names, begun=True)
    for step in range(3):
        ours, expected = (
            losses(one, batch(seed=step)) for one in (model, whole))
        for key in ours:
            assert torch.equal(ours[key], expected[key]), key
    # the first step runs to the end, and the copy always does
    assert calls['backbone.layer2'] == 6
    assert calls['backbone.layer3'] == (6 if runs else 4)
    assert calls['head.fc'] == 4


def test_other_recorders_let_the_teacher_run_to_its_end():
    config = distiller('fitnet')
    config['distill_losses']['loss_kd'] = dict(
        type='LogitLoss', criterion=dict(type='KDCriterion'))
    model = build(distiller=config)
    assert model.distiller.teacher_recorders.get_recorder(
        'features').stop_after is None
    calls = count(model, 'head.fc')
    for step in range(3):
        losses(model, batch(seed=step))
    assert calls['head.fc'] >= 3
