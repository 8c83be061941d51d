# Copyright (c) sdd_mm contributors. All rights reserved.
"""The configs that `make_config` writes, and what it refuses."""
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from test_configs import CONFIGS, METHODS, smoke, unscoped

from sdd_mm import make_config
from sdd_mm.config_builder import ConfigBuilderError
from sdd_mm.config_builder.methods import BASELINES, read_method

RES18 = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
RES50 = 'mmpretrain::resnet/resnet50_8xb16_cifar10.py'
SMALL = str(CONFIGS / 'vanilla' / 'res8x4_cifar100.py')
RES50_CKPT = ('https://download.openmmlab.com/mmclassification/v0/resnet/'
              'resnet50_b16x8_cifar10_20210528-f54bfad9.pth')


def test_a_written_config_keeps_the_recipe_and_trains(tmp_path):
    out = make_config(tmp_path / 'new' / 'folder' / 'run.py', RES18, RES50)
    assert len(out.read_text().splitlines()) <= 32
    assert list(tmp_path.rglob('*.*')) == [out]
    cfg, base = Config.fromfile(out), Config.fromfile(inherits(RES18))
    for key in base:
        if key not in ('model', 'custom_imports', 'custom_hooks',
                       'default_hooks', 'optim_wrapper'):
            assert unscoped(cfg[key]) == unscoped(base[key]), key
    ours = Config.fromfile(CONFIGS / '_base_' / 'hooks.py').sdd_mm_hooks
    assert unscoped(cfg.default_hooks) == unscoped(
        dict(base.default_hooks, **ours))
    assert unscoped(cfg.optim_wrapper) == unscoped(
        dict(base.optim_wrapper, type='DeferredOptimWrapper'))
    assert unscoped(cfg.model.architecture) == unscoped(base.model)
    assert cfg.model.teacher_ckpt == RES50_CKPT
    runner, losses = smoke(out, tmp_path / 'run')
    assert 'distill.loss_sdd' in losses
    hooks = {type(hook).__name__: hook for hook in runner.hooks}
    assert {
        'FrozenTeacherHook', 'SDDReportHook', 'DeferredScalarsHook',
        'ExactResumeHook', 'FiniteLossHook', 'LabelCheckHook'
    } <= set(hooks)
    assert hooks['DistillWarmupHook'].epochs == 20


def inherits(config):
    """A config that only inherits another one."""
    import mmpretrain
    root = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    return root / config.split('::')[1]


def test_numbers_of_every_method():
    for name in METHODS:
        shipped = Config.fromfile(CONFIGS / '_base_/methods' / f'{name}.py')
        found = read_method(name, 100)
        distiller = shipped.method.distiller
        assert found.losses == distiller.distill_losses.to_dict()
        assert (
            found.student_loss_weight == shipped.method.student_loss_weight)
        assert found.warmup == shipped.get('warmup')


@pytest.mark.parametrize('method, weight, loss_weight, criterion', [
    ('kd', 0.5, 0.5, dict(type='KDCriterion', tau=1.0)),
    ('sd-kd', 0.1, 0.9, dict(type='KDCriterion', tau=4.0)),
    ('dkd', 1.0, 1.0, dict(type='DKDCriterion', alpha=1.0, beta=2.0, tau=1.0)),
    ('nkd', 1.0, 1.0, dict(type='NKDCriterion', gamma=1.5, tau=1.0)),
])
def test_numbers_of_a_thousand_classes(method, weight, loss_weight, criterion):
    found = read_method(method, 1000)
    loss, = found.losses.values()
    assert loss['criterion'] == criterion
    assert found.student_loss_weight == weight
    assert loss['loss_weight'] == loss_weight
    assert found.warmup is None


@pytest.mark.parametrize('classes, method', [(100, 'nkd'), (1000, 'kd')])
def test_numbers_reach_the_config(tmp_path, classes, method):
    alone = tmp_path / 'alone.py'
    alone.write_text(f"""_base_ = ['{SMALL}']
model = dict(head=dict(num_classes={classes}))
""")
    out = make_config(tmp_path / 'run.py', str(alone), str(alone), method)
    cfg, wanted = Config.fromfile(out), read_method(method, classes)
    assert out.read_text().splitlines()[0].endswith(wanted.source)
    assert cfg.model.distiller.distill_losses == wanted.losses
    assert cfg.model.student_loss_weight == wanted.student_loss_weight
    assert cfg.custom_hooks[2:] == [
        dict(type='DistillWarmupHook', loss='loss_nkd', epochs=20)
    ][:bool(wanted.warmup)]


def test_the_shipped_config_could_have_been_written(tmp_path):
    name = 'mobilenet-v2_8xb32_in1k.py'
    cfg = Config.fromfile(
        make_config(tmp_path / 'run.py', f'mmpretrain::mobilenet_v2/{name}',
                    'mmpretrain::resnet/resnet50_8xb32_in1k.py'))
    shipped = Config.fromfile(CONFIGS / 'mmpretrain' / f'sd-dkd_{name}')
    for key in cfg.keys() - {'distill_losses'}:  # which only joins the file
        assert cfg[key] == shipped[key], key


def test_arguments_reach_the_config(tmp_path):
    cfg = Config.fromfile(
        make_config(
            tmp_path / 'run.py',
            SMALL,
            SMALL,
            teacher_ckpt='res50.pth',
            scales=[1, 2],
            criterion=dict(beta=6.0),
            warmup_epochs=0,
            student_recorder=dict(pooling='neck.gap', head='head.fc'),
            on_normalization_mismatch='convert'))
    model = cfg.model
    assert model.teacher_ckpt == 'res50.pth'
    loss = model.distiller.distill_losses.loss_sdd
    assert loss.scales == (1, 2)
    assert loss.criterion == dict(
        type='DKDCriterion', alpha=1.0, beta=6.0, tau=4.0)
    assert cfg.custom_hooks == [
        dict(type='FrozenTeacherHook'),
        dict(type='SDDReportHook')
    ]
    assert model.distiller.student_recorders.feature_head == dict(
        type='FeatureHead', pooling='neck.gap', head='head.fc')
    # inherited
    assert 'custom_imports' not in (tmp_path / 'run.py').read_text()
    assert cfg.custom_imports.imports == ['sdd_mm']
    assert 'teacher_recorders' not in model.distiller
    assert model.on_normalization_mismatch == 'convert'


@pytest.fixture
def local(tmp_path):
    """A student and a teacher of one's own."""
    folder = tmp_path / 'mine'
    folder.mkdir()
    (folder / 'student.py').write_text(f"""_base_ = ['{RES18}']
custom_imports = dict(imports=['colorsys'], allow_failed_imports=False)
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]
param_scheduler = [
    dict(type='LinearLR', end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5)]
model = dict(data_preprocessor=dict(
    num_classes=10, mean=[120.0] * 3, std=[60.0] * 3, to_rgb=False))
""")
    (folder / 'teacher.py').write_text("""_base_ = ['student.py']
model = dict(
    backbone=dict(depth=34, init_cfg=dict(type='Pretrained', checkpoint='x')),
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)))
""")
    return folder


def test_local_configs(tmp_path, local):
    out = make_config(tmp_path / 'new' / 'run.py', str(local / 'student.py'),
                      str(local / 'teacher.py'))
    text = out.read_text()
    assert "_base_ = ['../mine/student.py']" in text
    cfg = Config.fromfile(out)
    assert cfg.custom_imports.imports == ['sdd_mm', 'colorsys']
    assert [hook.type for hook in cfg.custom_hooks] == [
        'EMAHook', 'FrozenTeacherHook', 'SDDReportHook', 'DistillWarmupHook'
    ]
    teacher = cfg.model.teacher
    assert teacher.backbone.depth == 34
    assert 'init_cfg' not in teacher.backbone and 'train_cfg' not in teacher
    assert len(cfg.param_scheduler) == 2
    runner, _ = smoke(out, tmp_path / 'run')
    for model in (runner.model, runner.model.teacher):
        assert model.data_preprocessor.mean.flatten().tolist() == [120.0] * 3


def test_a_distilled_student_may_teach(tmp_path):
    first = make_config(tmp_path / 'first.py', SMALL, SMALL, 'sd-kd')
    cfg = Config.fromfile(
        make_config(tmp_path / 'second.py', SMALL, str(first), 'sd-kd'))
    assert cfg.model.teacher.type == 'ImageClassifier'
    assert cfg.model.teacher_ckpt is None
    with pytest.raises(ConfigBuilderError, match='FrozenTeacherDistill'):
        make_config(tmp_path / 'third.py', str(first), SMALL)


@pytest.mark.parametrize('arguments, message', [
    (dict(method='sd-dkt'), "no method 'sd-dkt'.* Did you mean 'sd-dkd'"),
    (dict(method='kd', scales=[1, 2]), 'kd .* no scales.* sd-kd'),
    (dict(method='sd-kd', criterion=dict(beta=1)), "no 'beta', only tau"),
    (dict(method='crd', scales=(1, 2)), 'scales and numbers of a criterion '
     'are for kd, .*distill_losses of crd'),
    (dict(method='sskd'), 'sskd needs a head .*RotationHead.*teacher_head'),
    (dict(method='fitnet', teacher_head='x'), 'for sskd and sd-sskd, fitnet'),
    (dict(method='semckd', warmup_epochs=2), 'semckd has several losses'),
    (dict(warmup_epochs=-1), 'non-negative integer, got -1'),
    (dict(warmup_epochs='3'), "non-negative integer, got '3'"),
    (dict(criterion=dict(tau=float('inf'))), 'tau .* finite number, got inf'),
    (dict(student_recorder='RegionHead'), 'student_recorder must be a dict'),
    (dict(warmup_epochs=240), 'warm-up of 240 epochs .* 240 epochs'),
    (dict(scales=[0]), r'positive integers such as \(1, 2, 4\)'),
    (dict(student='mmpretrain::resnet/resnet19.py'), 'student .*resnet19'),
    (dict(teacher='no.py'), 'teacher no.py cannot be read'),
    (dict(teacher=RES50), '10 classes, the student .* 100'),
    (dict(teacher_recorder=dict(head='head.fcc')),
     "no module 'head.fcc'.*argument teacher_recorder"),
])
def test_refusals(tmp_path, arguments, message):
    arguments = {'student': SMALL, 'teacher': SMALL, **arguments}
    with pytest.raises(ConfigBuilderError, match=message):
        make_config(tmp_path / 'run.py', **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['student.py', 'teacher.py', 'link.py'])
def test_its_sources_are_never_overwritten(local, name):
    (local / 'link.py').symlink_to(local / 'student.py')
    (local / 'heir.py').write_text("_base_ = ['student.py']\n")
    text = (local / name).read_text()
    for student in ('heir.py', 'student.py'):
        with pytest.raises(ConfigBuilderError, match='would be made from'):
            make_config(
                local / name,
                local / student,
                local / 'teacher.py',
                overwrite=True)
    assert (local / name).read_text() == text


def test_a_student_that_counts_iterations_says_how_long_it_warms_up(local):
    path = local / 'iterations.py'
    path.write_text("""_base_ = ['student.py']
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=1000)
param_scheduler = None
custom_hooks = (dict(type='EMAHook'), )
""")
    arguments = (local / 'run.py', path, local / 'teacher.py')
    with pytest.raises(ConfigBuilderError, match='counts iterations'):
        make_config(*arguments)
    make_config(*arguments, warmup_epochs=0)
    hooks = [hook.type for hook in Config.fromfile(arguments[0]).custom_hooks]
    assert hooks == ['EMAHook', 'FrozenTeacherHook', 'SDDReportHook']


def test_a_teacher_without_a_backbone(local):
    (local / 'timm.py').write_text("""model = dict(
    type='TimmClassifier', model_name='resnet18', num_classes=10,
    pretrained=False, data_preprocessor=dict(
        num_classes=10, mean=[120.0] * 3, std=[60.0] * 3, to_rgb=False))
""")
    named = dict(pooling='model.global_pool', head='model.fc')
    with pytest.raises(ConfigBuilderError, match='1 x 1|TimmClassifier'):
        make_config(local / 'run.py', local / 'student.py', local / 'timm.py')
    make_config(
        local / 'run.py',
        local / 'student.py',
        local / 'timm.py',
        teacher_recorder=named)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'folder.py').mkdir()
    (tmp_path / 'file').touch()
    for out in ('folder.py', 'file/run.py'):
        with pytest.raises(
                ConfigBuilderError, match='cannot be written|exists'):
            make_config(tmp_path / out, SMALL, SMALL, overwrite=True)


def test_a_teacher_that_is_not_linear_is_refused(tmp_path, capsys):
    teacher = 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'
    with pytest.raises(ConfigBuilderError) as error:
        make_config(tmp_path / 'run.py',
                    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
                    teacher)
    for part in ('teacher', 'ConvNeXt', 'normalizes after pooling',
                 'argument teacher_recorder'):
        assert part in str(error.value)
    # three checkpoints are published: it is not for us to choose
    assert 'convnext-tiny_32xb128-noema_in1k_20221208' in capsys.readouterr(
    ).out


def test_a_student_that_is_not_linear_in_region_mode(tmp_path):
    student = 'mmpretrain::mobilenet_v3/mobilenet-v3-small_8xb16_cifar10.py'
    with pytest.raises(ConfigBuilderError, match='argument student_recorder'):
        make_config(tmp_path / 'run.py', student, RES50)
    out = make_config(
        tmp_path / 'run.py',
        student,
        RES50,
        student_recorder=dict(type='RegionHead'))
    assert Config.fromfile(out).model.distiller.student_recorders == dict(
        feature_head=dict(type='RegionHead'))


def test_another_normalization_is_refused_or_converted(tmp_path, local):
    arguments = dict(student=str(local / 'student.py'), teacher=RES50)
    with pytest.raises(
            ConfigBuilderError, match='argument on_normalization_mismatch'):
        make_config(tmp_path / 'run.py', **arguments)
    make_config(
        tmp_path / 'run.py', on_normalization_mismatch='convert', **arguments)


def test_load_from_and_existing_files_are_refused(tmp_path, local):
    student = local / 'student.py'
    with pytest.raises(ConfigBuilderError, match='student.py exists'):
        make_config(student, RES18, RES50)
    student.write_text(student.read_text() + "load_from = 'x.pth'\n")
    with pytest.raises(ConfigBuilderError, match="checkpoint='x.pth'"):
        make_config(tmp_path / 'run.py', str(student), RES50)


def test_a_teacher_checkpoint_that_does_not_fit_is_refused(tmp_path):
    import torch
    checkpoint = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict={'fc.weight': torch.zeros(1)}), checkpoint)
    with pytest.raises(
            ConfigBuilderError, match='not in the model: fc.weight'):
        make_config(
            tmp_path / 'run.py', SMALL, SMALL, teacher_ckpt=str(checkpoint))


def test_command_line(tmp_path, monkeypatch, capsys):
    arguments = ('--student', RES18, '--teacher', RES50, '--method', 'sd-kd',
                 '--scales', 1, 2, '--tau', 2, '--teacher-recorder',
                 'pooling=neck.gap')
    script = CONFIGS.parent / 'tools' / 'make_config.py'
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['', 'run.py', *map(str, arguments)])
    runpy.run_path(str(script), run_name='__main__')
    assert 'run.py is written' in capsys.readouterr().out
    loss = Config.fromfile('run.py').model.distiller.distill_losses.loss_sdd
    assert (loss.scales, loss.criterion.tau) == ((1, 2), 2.0)
    monkeypatch.setattr(sys, 'argv', ['', 'run.kd', *map(str, arguments)])
    with pytest.raises(SystemExit, match='ERROR - run.kd: .* must end in .py'):
        runpy.run_path(str(script), run_name='__main__')


@pytest.mark.parametrize('method', BASELINES)
def test_methods_that_sdd_is_compared_with(method, tmp_path):
    head = dict(teacher_head='head.pth') if 'sskd' in method else {}
    demo = tmp_path / 'student.py'
    demo.write_text(f'_base_ = {str(CONFIGS / "demo/student.py")!r}\n'
                    'train_dataloader = dict(batch_size=16)\n'
                    'train_cfg = dict(max_epochs=24)\n')
    out = make_config(tmp_path / f'{method}.py', demo,
                      CONFIGS / 'demo/teacher.py', method, **head)
    cfg = Config.fromfile(out)
    shipped = Config.fromfile(CONFIGS / '_base_/methods' / f'{method}.py')
    wanted = shipped.method
    assert cfg.model.type == wanted.get('type', 'FrozenTeacherDistill')
    assert cfg.model.student_loss_weight == wanted.student_loss_weight
    losses = cfg.model.distiller.pop('distill_losses')
    for name, loss in wanted.distiller.pop('distill_losses').items():
        changed = dict(
            crd=dict(num_data=1500, num_negatives=1024),
            semckd=dict(batch_size=16),
            reviewkd=dict(loss_weight=5.0))
        fits = name in ('loss_crd', 'loss_semckd', 'loss_review')
        if name == 'loss_relation':
            changed, fits = {method: head}, True
        loss.update(changed[method] if fits else {})
        assert losses[name] == loss
    assert cfg.model.distiller == wanted.distiller
    assert bool(cfg.train_dataloader.get('drop_last')) == (method == 'semckd')
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert ('DistillWarmupHook' in hooks) == (method == 'reviewkd')
    assert ('TrainingLabelsHook' in hooks) == (method == 'crd')


def test_views_are_cropped_once(tmp_path):
    out = make_config(
        tmp_path / 'run.py',
        SMALL,
        CONFIGS / 'vanilla/res32x4_cifar100.py',
        'sskd',
        teacher_head='head.pth')
    cfg = Config.fromfile(out)
    assert [step.type for step in cfg.train_dataloader.dataset.pipeline
            ] == ['RandomFlip', 'PackInputs']


def test_other_stages_are_named_by_the_recorder(tmp_path):
    sources = ['backbone.layer1', 'backbone.layer2']
    out = make_config(
        tmp_path / 'run.py',
        SMALL,
        CONFIGS / 'vanilla/res32x4_cifar100.py',
        'semckd',
        student_recorder=dict(sources=sources))
    found = Config.fromfile(out).model.distiller
    assert found.student_recorders == dict(
        stages=dict(type='StageMaps', sources=sources))
    assert found.teacher_recorders == dict(stages=dict(type='StageMaps'))
