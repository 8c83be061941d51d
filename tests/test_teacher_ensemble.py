# Copyright (c) sdd_mm contributors. All rights reserved.
"""Several teachers teach the mean of what each of them says."""
import re
from pathlib import Path

import pytest
import torch
from commands import run
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmrazor.registry import MODELS

from sdd_mm.analysis import load_run, validation_loader
from sdd_mm.doctor.trial import set_up
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.smoke import to_smoke
from sdd_mm.models.algorithms import TeacherError
from sdd_mm.models.records import FeatureHead, LocalLogits, MeanRecord

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'demo'
FEW = {
    'train_dataloader.dataset.num_scenes': 100,
    'train_dataloader.batch_size': 25,
    'val_dataloader.dataset.num_scenes': 40,
    'val_dataloader.batch_size': 20,
    'test_dataloader.dataset.num_scenes': 40,
    'train_cfg.max_epochs': 1,
    'default_hooks.logger.interval': 1,
}


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Random networks: one for colors with another map, one for depth."""
    folder = tmp_path_factory.mktemp('teachers')
    found = {}
    for seed, name in enumerate(('color', 'depth')):
        torch.manual_seed(seed)
        model = MODELS.build(dict(network(name), _scope_='mmpretrain'))
        path = folder / f'{name}.pth'
        torch.save(dict(state_dict=model.state_dict(), meta={}), path)
        found[name] = str(path)
    return found


def network(name):
    cfg = Config.fromfile(CONFIGS / 'privileged' / 'privileged-kd.py')
    model = cfg.model.teacher.to_dict()
    if name == 'color':
        model['data_preprocessor'] = dict(mean=[0.] * 3, std=[255.] * 3)
        model['backbone'] = dict(type='VGG', depth=11, num_classes=-1)
        model['backbone'] = dict(
            type='CIFARResNet',
            depth=8,
            width=8,
            stem_channels=8,
            in_channels=3)
        model['head']['in_channels'] = 32
    return model


def run_config(tmp_path, checkpoints, name='sd-kd', **options):
    cfg = Config.fromfile(CONFIGS / 'privileged' / f'privileged-{name}.py')
    cfg.model.teacher = dict(
        type='TeacherEnsemble',
        teachers=[network('color'), network('depth')],
        views=['student', 'teacher'])
    cfg.model.teacher_ckpt = [checkpoints['color'], checkpoints['depth']]
    cfg.model.on_normalization_mismatch = 'convert'
    cfg.merge_from_dict({**FEW, **options})
    cfg.work_dir = str(tmp_path / 'run')
    return cfg


def test_the_mean_of_records():
    torch.manual_seed(0)
    one = FeatureHead(
        torch.randn(3, 5, 8, 8).double(),
        torch.randn(4, 5).double(),
        torch.randn(4).double())
    two = FeatureHead(
        torch.randn(3, 7, 4, 4).double(),
        torch.randn(4, 7).double())
    mean = MeanRecord((one, two))
    for pooling in ('hierarchical', 'direct'):
        wanted = (one.local_logits((1, 2, 4), pooling) + two.local_logits(
            (1, 2, 4), pooling)) / 2
        assert torch.equal(mean.local_logits((1, 2, 4), pooling), wanted)
    assert torch.equal(mean.logits(), (one.logits() + two.logits()) / 2)
    assert torch.equal(mean.samples(slice(1, 2)).logits(), mean.logits()[1:2])
    assert (mean.num_samples, mean.num_classes) == (3, 4)
    assert mean.pooled.shape == (3, 12)
    # of equal maps, it is the record of one network
    both = FeatureHead(
        torch.cat([one.feature, one.feature * 2], 1),
        torch.cat([one.weight, one.weight], 1) / 2, one.bias)
    other = FeatureHead(one.feature * 2, one.weight, one.bias)
    assert torch.allclose(
        MeanRecord((one, other)).local_logits(), both.local_logits())


@pytest.mark.parametrize('name', ['sd-kd', 'kd', 'sd-dkd'])
def test_a_training_by_two_teachers(tmp_path, checkpoints, name):
    cfg = run_config(tmp_path, checkpoints, name, experiment_name=name)
    model = check_training(cfg).model
    before = {n: v.clone() for n, v in model.teacher.state_dict().items()}
    batch = next(iter(batches_of(cfg)))
    model.train()
    data = model.data_preprocessor(batch, True)
    record = model.teacher_source.record(data['inputs'], data['data_samples'])
    color, depth = model.teacher.members
    with torch.no_grad():
        wanted = (
            color(batch['inputs']['student'] / 255., mode='tensor') + depth(
                (batch['inputs']['teacher'] - 64.) / 64, mode='tensor')) / 2
    assert torch.allclose(record.logits(), wanted, atol=1e-5)
    if name == 'kd':
        assert isinstance(record, LocalLogits)
    else:
        parts = [one.local_logits() for one in record.records]
        assert torch.allclose(record.local_logits(), sum(parts) / 2)
    model.distiller.reset_records()
    runner = Runner.from_cfg(cfg)
    runner.train()
    after = runner.model.teacher.cpu().state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    if name == 'sd-kd':
        run = load_run(str(tmp_path / 'run' / 'epoch_1.pth'))
        outputs = run.classify('teacher', list(validation_loader(run.cfg)))
        assert outputs.logits.shape == (40, 10)
        findings = list(set_up(cfg, 1, 1))
        one, two, mean = (
            found.text for found in findings if found.title == 'teacher')
        assert '/color.pth' in one and '/depth.pth' in two
        assert mean.startswith('the mean of their logits: top-1')
        images, = (found for found in findings if found.title == 'images')
        assert 'images of its own' in images.text


def batches_of(cfg):
    loader = dict(
        cfg.train_dataloader,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Runner.build_dataloader(loader)


def test_teachers_that_see_the_students_images(tmp_path, checkpoints):
    """Without images of their own, each in its own format."""
    cfg = Config.fromfile(CONFIGS / 'sd-kd.py')
    cfg.merge_from_dict(FEW)
    cfg.work_dir = str(tmp_path)
    cfg.model.teacher = dict(
        type='TeacherEnsemble', teachers=[network('color')] * 2)
    cfg.model.teacher_ckpt = [checkpoints['color']] * 2
    with pytest.raises(PreflightError, match='on_normalization_mismatch'):
        check_training(cfg)
    cfg.model.on_normalization_mismatch = 'convert'
    model = check_training(cfg).model
    images = torch.rand(2, 3, 32, 32)
    one, two = model.teacher_images((images * 255 - 64) / 64)
    assert torch.allclose(one, images, atol=1e-5) and torch.equal(one, two)
    cfg.merge_from_dict({'custom_hooks': [dict(type='TeacherCacheHook')]})
    assert to_smoke(cfg, 1)
    check_training(cfg)


@pytest.mark.parametrize('options, message', [
    ({
        'model.teacher_ckpt': ['a.pth']
    }, 'names 1 checkpoints for 2 teachers'),
    ({
        'model.teacher.views': ['student']
    }, "one of ('student', 'teacher') for each of the 2 teachers"),
    ({
        'model.teacher_inference': dict(fold_bn=True)
    }, 'remove it for a TeacherEnsemble'),
    ({
        'model.distiller.teacher_recorders':
        dict(feature_head=dict(type='FeatureHead'))
    }, 'FeatureHeadRecorder records a single network'),
    ({
        'model.distiller.teacher_recorders':
        dict(
            feature_head=dict(
                type='Ensemble', recorders=[dict(type='FeatureHead')]))
    }, '1 recorders for 2 teachers'),
    ({
        'model.teacher.teachers.1.head.num_classes': 7
    }, 'correct model.teacher.teachers.1.head.num_classes'),
    ({
        'model.teacher.teachers.1.data_preprocessor': None
    },
     'leaves the images of the teacher to model.teacher.teachers.1.data_pre'),
    ({
        'data_preprocessor.type': 'AsyncClsDataPreprocessor'
    }, "data_preprocessor.type='PairedDataPreprocessor'"),
    ({
        'model.teacher.views': None
    }, 'set model.teacher.views'),
])
def test_refusals(tmp_path, checkpoints, options, message):
    cfg = run_config(tmp_path, checkpoints, **options)
    with pytest.raises((PreflightError, TeacherError),
                       match=re.escape(message)):
        check_training(cfg)


@pytest.mark.parametrize('teachers', [
    network('depth'),
    dict(one=network('depth'), other=network('depth')),
    [network('depth'), None],
])
def test_teachers_are_a_list(tmp_path, checkpoints, teachers):
    cfg = run_config(tmp_path, checkpoints)
    cfg.model.teacher.teachers = teachers
    with pytest.raises(PreflightError, match='teachers must be a list'):
        check_training(cfg)


def test_a_bad_teacher_does_not_hide(tmp_path, checkpoints):
    cfg = run_config(tmp_path, checkpoints,
                     **{'val_dataloader.dataset.num_scenes': 300})
    cfg.model.teacher_ckpt = [checkpoints['color'], checkpoints['depth']]
    findings = [one for one in set_up(cfg, 3, 1) if one.title == 'teacher']
    assert findings[0].mark == findings[1].mark == 'error'
    assert 'model.teacher.teachers.1.data_preprocessor' in findings[1].text
    assert 'model.teacher_input' in findings[0].text


@pytest.mark.parametrize('name', ['kd', 'sd-kd'])
def test_a_head_of_several_labels_is_no_teacher(tmp_path, checkpoints, name):
    cfg = run_config(
        tmp_path, checkpoints, name, **{
            'model.teacher.teachers.1.head':
            dict(
                type='MultiLabelLinearClsHead',
                num_classes=10,
                in_channels=64,
                _delete_=True)
        })
    with pytest.raises(PreflightError, match='is multi-label'):
        check_training(cfg)


def test_an_average_of_the_student_leaves_each_teacher_its_images(
        tmp_path, checkpoints):
    """EMA's copy shares the teachers, and pairs buffers by their order."""
    cfg = run_config(tmp_path, checkpoints, experiment_name='ema')
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.1))
    runner = Runner.from_cfg(cfg)
    teachers = runner.model.teacher
    before = {name: value.clone() for name, value in teachers.named_buffers()}
    assert len(before) > 20
    seen = []
    for member in teachers.members:
        member.backbone.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].min().item()))
    runner.train()
    for name, value in teachers.named_buffers():
        assert torch.equal(value, before[name]), name
    # black, as each teacher has it
    assert len(seen) >= 8 and set(seen[::2]) == {0.} and set(
        seen[1::2]) == {-1.}


def test_methods_over_features_have_one_teacher(tmp_path, checkpoints):
    cfg = run_config(tmp_path, checkpoints)
    method = Config.fromfile(CONFIGS / 'sp.py').model.distiller
    cfg.model.distiller = method
    with pytest.raises(PreflightError, match='records a single network'):
        check_training(cfg)
    method = Config.fromfile(CONFIGS / 'reviewkd.py').model.distiller
    cfg.model.distiller = method
    with pytest.raises(PreflightError, match='compares features of one'):
        check_training(cfg)


def test_the_commands_take_pairs(tmp_path, checkpoints):
    """Smoke run, training, test, report and export, of a part for each."""
    cfg = run_config(tmp_path, checkpoints)
    cfg.data_preprocessor = dict(
        type='PairedDataPreprocessor',
        student=dict(num_classes=10, mean=[64.] * 3, std=[64.] * 3),
        teacher=cfg.model.teacher.teachers[1].pop('data_preprocessor'))
    path = tmp_path / 'pairs.py'
    cfg.dump(str(path))
    work = tmp_path / 'run'
    smoke = run('tools/train.py', path, '--smoke', 2, '--work-dir', work)
    assert smoke.returncode == 0, smoke.stdout
    train = run('tools/train.py', path, '--work-dir', work)
    assert train.returncode == 0, train.stdout
    accuracy = float(re.findall(r'accuracy/top1: (\S+)', train.stdout)[-1])
    checkpoint = work / 'epoch_1.pth'
    test = run('tools/test.py', path, checkpoint, '--work-dir', work)
    assert f'accuracy/top1: {accuracy:.4f}' in test.stdout
    report = run('tools/analysis/report.py', checkpoint, '--images', 40,
                 '--only', 'verdicts', '--out', tmp_path / 'report')
    assert report.returncode == 0, report.stdout
    page, = (tmp_path / 'report').glob('*.html')
    assert f'{accuracy:.1f}' in page.read_text()
    export = run('tools/model_converters/export_student.py', checkpoint,
                 tmp_path / 'student.pth', '--onnx')
    assert export.returncode == 0, export.stdout
    alone = Config.fromfile(tmp_path / 'student.py')
    assert alone.test_dataloader.dataset.pipeline[-1].type == 'PackInputs'
    plain = run('tools/test.py', tmp_path / 'student.py',
                tmp_path / 'student.pth', '--work-dir', work)
    assert f'accuracy/top1: {accuracy:.4f}' in plain.stdout
