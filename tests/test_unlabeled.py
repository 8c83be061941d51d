# Copyright (c) sdd_mm contributors. All rights reserved.
"""Images without labels: the student learns from the teacher alone."""
import copy
from pathlib import Path

import commands
import pytest
import torch
import torch.nn.functional as F
from baselines import distiller
from mmengine.config import Config
from mmpretrain.structures import DataSample
from PIL import Image
from toy import PREPROCESSOR, batch, build, classifier, sdd_loss

from sdd_mm.datasets import DigitScenes
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.hooks.sdd_report_hook import CASES, split
from sdd_mm.engine.preflight import check_training
from sdd_mm.models.algorithms.unlabeled import UnlabeledError

ROOT = Path(__file__).resolve().parents[1]
KD = dict(type='LogitLoss', criterion=dict(type='KDCriterion'))
DKD = dict(type='LogitLoss', criterion=dict(type='DKDCriterion'))
CLASS = sdd_loss(consistency='class')


def make(loss, **kwargs):
    kwargs.setdefault('allow_unlabeled', True)
    torch.manual_seed(0)
    model = build(
        distiller=dict(
            type='SDDDistiller', distill_losses=dict(loss_own=loss)),
        **kwargs)
    model.init_weights()
    return model


def without(data, *places):
    """The batch without the labels of some images."""
    data = copy.deepcopy(data)
    for place in places:
        data['data_samples'][place] = DataSample()
    return data


def losses_of(model, data):
    state = copy.deepcopy(model.state_dict())
    data = model.train().data_preprocessor(data, training=True)
    found = model(**data, mode='loss')
    model.load_state_dict(state)  # batch norm has moved
    return found


@pytest.mark.parametrize('loss', [KD, CLASS], ids=['kd', 'sd-kd'])
@pytest.mark.parametrize('places', [(0, 1, 2, 3), (1, 3)])
def test_what_needs_no_label_is_what_it_was(loss, places):
    model = make(loss)
    wanted = losses_of(model, batch())
    found = losses_of(model, without(batch(), *places))
    assert found['distill.loss_own'] == wanted['distill.loss_own']


def test_the_students_own_loss_is_of_the_labeled_images():
    model, data = make(KD, student_loss_weight=0.5), batch(6)
    wanted, kept = [], [0, 2, 5]
    hook = model.student.head.register_forward_hook(
        lambda module, args, output: wanted.append(output))
    found = losses_of(model, without(data, 1, 3, 4))
    hook.remove()
    labels = torch.cat([data['data_samples'][k].gt_label for k in kept])
    own = 0.5 * F.cross_entropy(wanted[0][kept], labels)
    torch.testing.assert_close(found['student.loss'], own)
    none = losses_of(model, without(data, *range(6)))
    assert none['student.loss'] == 0 and none['student.loss'].requires_grad


@pytest.mark.parametrize('own', [DKD, sdd_loss('NKDCriterion'), sdd_loss()])
def test_the_teachers_verdict_as_the_label(own):
    model = make(dict(own, unlabeled_target='teacher'))
    data = batch()
    images = model.data_preprocessor(batch(), True)['inputs']
    verdicts = model.teacher(images, mode='tensor').argmax(1)
    told = copy.deepcopy(data)
    for place in (1, 3):
        told['data_samples'][place].set_gt_label(verdicts[place])
    wanted = losses_of(model, told)['distill.loss_own']
    found = losses_of(model, without(data, 1, 3))['distill.loss_own']
    torch.testing.assert_close(found, wanted)
    # the labels that there are stay what they are
    plain = make(own, allow_unlabeled=False)
    plain.load_state_dict(model.state_dict())
    plain.teacher.load_state_dict(model.teacher.state_dict())
    assert losses_of(plain, data)['distill.loss_own'] == losses_of(
        model, data)['distill.loss_own']


@pytest.mark.parametrize('losses, message', [
    (dict(loss_own=DKD), 'loss_own .LogitLoss. needs the label.*KDCriterion'
     ".*unlabeled_target='teacher'"),
    (dict(loss_own=sdd_loss()), "loss_own.*consistency='class'"),
    (dict(loss_own=sdd_loss('DKDCriterion', consistency='class')),
     'loss_own.*KDCriterion'),
])
def test_losses_that_need_labels_are_refused(losses, message):
    with pytest.raises(UnlabeledError, match=message):
        build(
            allow_unlabeled=True,
            distiller=dict(type='SDDDistiller', distill_losses=losses))


def test_what_else_is_refused():
    model = make(KD, allow_unlabeled=False)
    with pytest.raises(UnlabeledError, match='2 of 4 .*allow_unlabeled=True'):
        losses_of(model, without(batch(), 0, 1))
    with pytest.raises(UnlabeledError, match='ContrastiveLoss.*label'):
        build(allow_unlabeled=True, distiller=distiller('crd'))
    mixing = classifier(train_cfg=dict(augments=dict(type='Mixup', alpha=0.2)))
    with pytest.raises(UnlabeledError, match='Mixup.*train_cfg=None'):
        make(KD, architecture=mixing)
    mixing = dict(
        PREPROCESSOR,
        batch_augments=dict(augments=dict(type='Mixup', alpha=0.2)))
    with pytest.raises(UnlabeledError, match='remove batch_augments'):
        make(KD, data_preprocessor=mixing)
    head = dict(
        type='ArcFaceClsHead',
        num_classes=10,
        in_channels=16,
        loss=dict(type='CrossEntropyLoss'))
    with pytest.raises(UnlabeledError, match='ArcFaceClsHead'):
        build(
            allow_unlabeled=True,
            architecture=classifier(head=head),
            distiller=dict(
                type='SDDDistiller',
                distill_losses={},
            ))


def test_the_report_counts_cells_of_labeled_images():
    model = make(CLASS)
    loss = model.distiller.distill_losses['loss_own']
    kept = []
    loss.register_forward_pre_hook(
        lambda module, args, kwargs: kept.append((args, kwargs)),
        with_kwargs=True)
    for data in (batch(), without(batch(), 1, 3)):
        losses_of(model, data)
    found = [split(loss, loss.rows(*args, **kwargs)) for args, kwargs in kept]
    for parts in found:
        assert sum(parts[name] for name in CASES) == pytest.approx(1)
    assert found[0]['complementary'] == found[1]['complementary']


def folder(path, count, labeled):
    for index, scene in enumerate(DigitScenes('train', count)):
        place = path / (f'{scene["gt_label"]}'
                        if labeled else f'{index % 3}/deeper')
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene['img']).save(place / f'{index}.png')


@pytest.mark.parametrize('mixed', [False, True], ids=['none', 'mixed'])
def test_a_training_from_folders(tmp_path, mixed):
    folder(tmp_path / 'photos', 40, False)
    folder(tmp_path / 'labeled', 40, True)
    names = ', '.join(f'"{digit}"' for digit in range(10))
    config = tmp_path / 'sd-kd.py'
    config.write_text(f'''
_base_ = ["{ROOT}/configs/demo/sd-kd.py"]
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
photos = dict(type='CustomDataset', with_label=False, classes=[{names}],
              data_root='{tmp_path}/photos', pipeline=pipeline)
labeled = dict(type='CustomDataset', classes=[{names}],
               data_root='{tmp_path}/labeled', pipeline=pipeline)
train_dataloader = dict(batch_size=8, dataset=dict(_delete_=True,
    **({'dict(type="ConcatDataset", datasets=[photos, labeled])'
        if mixed else 'photos'})))
val_dataloader = dict(dataset=dict(_delete_=True, **labeled))
model = dict(
    teacher_ckpt=None, allow_untrained_teacher=True, allow_unlabeled=True,
    student_loss_weight={1.0 if mixed else 0.0},
    distiller=dict(distill_losses=dict(loss_sdd=dict(consistency='class'))))
train_cfg = dict(max_epochs=1)
param_scheduler = dict(total_steps=1)
''')
    result = commands.run(ROOT / 'tools' / 'train.py', config, '--work-dir',
                          tmp_path / 'run')
    assert result.returncode == 0, result.stdout
    assert 'accuracy/top1' in result.stdout
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('alone', [True, False])
def test_validation_needs_labels(tmp_path, alone):
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'sd-kd.py')
    cfg.merge_from_dict({
        'work_dir': str(tmp_path),
        'model.teacher_ckpt': None,
        'model.allow_untrained_teacher': True,
        'train_dataloader.dataset.num_scenes': 200,
    })
    known = dict(cfg.val_dataloader.dataset, num_scenes=200)
    unknown = dict(known, with_label=False)
    cfg.val_dataloader.dataset = unknown if alone else dict(
        type='ConcatDataset', datasets=[known, unknown])
    with pytest.raises(
            PreflightError, match='has no label.* give val_dataloader'):
        check_training(cfg)
    cfg.val_dataloader.dataset = known
    check_training(cfg)


def test_scenes_without_labels():
    known, unknown = (
        DigitScenes('train', 3, seed=1, with_label=with_label)
        for with_label in (True, False))
    for one, other in zip(known, unknown):
        assert (one['img'] == other['img']).all()
        assert 'gt_label' in one and 'gt_label' not in other
