# Copyright (c) sdd_mm contributors. All rights reserved.
"""The baselines inside an algorithm and a run."""
import copy
from pathlib import Path

import pytest
import torch
from baselines import BASELINES, distiller
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from short_run import SGD, loader
from toy import algorithm, batch, build, losses

from sdd_mm.engine.smoke import to_smoke
from sdd_mm.models.losses import DistillLossError
from sdd_mm.teacher_cache import TeacherCacheError

ROOT = Path(__file__).resolve().parents[3]
on_every_baseline = pytest.mark.parametrize('name', BASELINES)


def images():
    """A batch whose images know their places in the training set."""
    data = batch(4)
    for place, sample in enumerate(data['data_samples']):
        sample.set_field(5 * place, 'sample_idx', field_type='metainfo')
    return data


def step(model):
    """The losses of a step, after whose backward pass gradients are there."""
    loss = model.distiller.distill_losses['loss_own']
    if hasattr(loss, 'set_labels'):
        loss.set_labels(torch.arange(24) % 4)
    found = losses(model, images())
    sum(value for key, value in found.items() if 'loss' in key).backward()
    return found


def stock_algorithm(name):
    """The same with what MMRazor has of its own."""
    config = algorithm(distiller=distiller(name))
    del config['allow_untrained_teacher']
    config.update(type='SingleTeacherDistill')
    config['distiller'].update(type='ConfigurableDistiller')
    config['data_preprocessor'] = dict(
        config['data_preprocessor'], type='mmpretrain.ClsDataPreprocessor')
    for network in ('architecture', 'teacher'):
        config[network]['_scope_'] = 'mmpretrain'
    return copy.deepcopy(config)


@on_every_baseline
def test_a_step_of_both_algorithms(name):
    torch.manual_seed(0)
    model = build(distiller=distiller(name))
    model.init_weights()
    stock = MODELS.build(stock_algorithm(name))
    stock.load_state_dict(model.state_dict(), strict=False)
    stock.teacher.load_state_dict(model.teacher.state_dict())
    teacher = copy.deepcopy(model.teacher.state_dict())
    values = []
    for one in (model, stock):
        torch.manual_seed(1)
        found = step(one)
        values.append(found['distill.loss_own'].item())
        learned = {
            key: value.grad
            for key, value in one.named_parameters()
            if not key.startswith('teacher.')
        }
        assert all(grad is not None for grad in learned.values())
        own = [key for key in learned if key.startswith('distiller.')]
        assert len(own) == len(list(one.distiller.parameters()))
    assert values[0] == pytest.approx(values[1], rel=1e-5) and values[0] > 0
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, teacher[key])


@on_every_baseline
def test_weight_0_changes_nothing_for_the_student(name):
    gradients, student = [], None
    for weight in (0., None):
        torch.manual_seed(0)
        config = distiller(name, loss_weight=0.)
        if weight is None:
            config = dict(type='SDDDistiller')
        model = build(distiller=config)
        torch.manual_seed(1)
        model.init_weights()
        if weight is None:
            model.architecture.load_state_dict(student)
            found = losses(model, images())
            found['student.loss'].backward()
        else:
            student = copy.deepcopy(model.architecture.state_dict())
            step(model)
        gradients.append([p.grad for p in model.architecture.parameters()])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other)


def run(work_dir, name, until=2, resume=False, warmup=True, **kwargs):
    """A run of six iterations per epoch; its weights and random state."""
    hooks = [dict(type='TrainingLabelsHook')] if name == 'crd' else []
    if warmup:
        hooks.append(dict(type='DistillWarmupHook', loss='loss_own', epochs=2))
    config = dict(
        model=algorithm(distiller=distiller(name)),
        work_dir=str(work_dir),
        experiment_name=f'{name}_{work_dir.name}_{until}',
        default_scope='mmpretrain',
        train_dataloader=loader(),
        train_cfg=dict(by_epoch=True, max_epochs=until),
        optim_wrapper=dict(type='OptimWrapper', optimizer=SGD),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1),
            exact_resume=dict(type='ExactResumeHook')),
        custom_hooks=hooks,
        resume=resume,
        randomness=dict(seed=3))
    config.update(kwargs)
    runner = Runner.from_cfg(ConfigDict(copy.deepcopy(config)))
    runner.train()
    return runner.model


@pytest.mark.parametrize('name', ['crd', 'mgd'])
def test_a_resumed_run_is_the_uninterrupted_one(name, tmp_path):
    whole = run(tmp_path / 'whole', name).state_dict()
    run(tmp_path / 'parts', name, until=1)
    resumed = run(tmp_path / 'parts', name, resume=True).state_dict()
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    assert any('distill_losses.loss_own' in key for key in whole)
    if name == 'crd':
        own = 'distiller.distill_losses.loss_own.'
        assert (whole[f'{own}normalizers'] > 0).all()


def test_the_labels_come_from_the_training_set(tmp_path):
    model = run(tmp_path, 'crd', until=1)
    loss = model.distiller.distill_losses['loss_own']
    assert loss.labels.min() >= 0 and len(loss.labels) == 24
    # every image's memory has moved in an epoch
    moved = loss.memory_student.norm(dim=1)
    torch.testing.assert_close(moved, torch.ones_like(moved))


SCENES = loader()['dataset']


@pytest.mark.parametrize('dataset, augments, message', [
    (dict(type='ConcatDataset', datasets=[SCENES, SCENES
                                          ]), None, 'is a ConcatDataset'),
    (dict(SCENES, num_scenes=28), None, 'num_data'),
    (SCENES, dict(augments=dict(type='Mixup', alpha=1.)), 'Mixup'),
])
def test_data_that_cannot_be_contrasted_is_refused(dataset, augments, message,
                                                   tmp_path):
    model = algorithm(distiller=distiller('crd'))
    if augments:
        model['architecture']['train_cfg'] = augments
    with pytest.raises(DistillLossError, match=message):
        run(tmp_path,
            'crd',
            until=1,
            model=model,
            train_dataloader=dict(loader(), dataset=dataset))


def test_labels_without_a_loss_that_wants_them(tmp_path):
    with pytest.raises(DistillLossError, match='remove it'):
        run(tmp_path,
            'mgd',
            until=1,
            custom_hooks=[dict(type='TrainingLabelsHook')])


def test_a_smoke_run_has_fewer_images_than_the_loss_was_built_for(tmp_path):
    config = Config.fromfile(ROOT / 'configs/demo/kd.py')
    config.custom_hooks = [dict(type='TrainingLabelsHook')]
    config.work_dir = str(tmp_path)
    to_smoke(config, 1)
    hook = config.custom_hooks[0]
    few = dict(loader(), dataset=dict(SCENES, num_scenes=8))
    model = run(
        tmp_path, 'crd', until=1, train_dataloader=few, custom_hooks=[hook])
    labels = model.distiller.distill_losses['loss_own'].labels
    assert len(labels) == 24 and labels[8:].tolist() == [
        index % 10 for index in range(8, 24)
    ]


@pytest.mark.parametrize('name', ['crd', 'reviewkd'])
def test_a_compiled_student_is_distilled_the_same(name):
    values = []
    for compiled in (False, dict(backend='eager')):
        torch.manual_seed(0)
        model = build(distiller=distiller(name), compile_student=compiled)
        found = step(model)
        values.append([
            found['distill.loss_own'],
            *(p.grad for p in model.architecture.parameters())
        ])
    for one, other in zip(*values):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('name', ['sp', 'crd'])
def test_a_teacher_cache_has_no_features(name, tmp_path):
    scenes = dict(type='InMemoryDataset', dataset=SCENES)
    train = dict(
        loader(), dataset=scenes, collate_fn=dict(type='batch_or_collate'))
    with pytest.raises(TeacherCacheError, match='loss_own'):
        run(tmp_path,
            name,
            until=1,
            train_dataloader=train,
            custom_hooks=[dict(type='TeacherCacheHook')])
