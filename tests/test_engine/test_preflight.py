# Copyright (c) sdd_mm contributors. All rights reserved.
"""One clear error each, before anything is built or written."""
import logging
from io import StringIO
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from toy import build_classifier

from sdd_mm.engine.config_keys import check_options
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight import check_testing, check_training, hand_over
from sdd_mm.engine.preflight.handover import RandomState
from sdd_mm.images import channel_order
from sdd_mm.models.algorithms import teacher

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture
def cfg(tmp_path):
    """The demo's SD-KD with a teacher on disk."""
    config = Config.fromfile(CONFIGS / 'demo' / 'sd-kd.py')
    config.work_dir = str(tmp_path / 'run')
    for field in ('train_dataloader', 'val_dataloader'):
        config[field].dataset.num_scenes = 32
    config.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    teacher = config.model.teacher
    torch.save(
        build_classifier(backbone=teacher.backbone,
                         head=teacher.head).state_dict(),
        config.model.teacher_ckpt)
    return config


def test_good_set_up_passes_and_writes_nothing(cfg):
    state = RandomState.now()
    check_training(cfg)
    assert RandomState.now() == state
    assert not Visualizer.check_instance_created('check')
    assert not Path(cfg.work_dir).exists()


def test_a_run_with_the_checked_model_is_the_same_to_the_bit(cfg, monkeypatch):
    cfg.randomness.seed = 3
    cfg.train_dataloader.num_workers = 0
    cfg.train_cfg.max_epochs = 2
    cfg.experiment_name = 'built'
    built = Runner.from_cfg(cfg)
    after_building = RandomState.now()
    built.train()
    before = RandomState.now()
    checked = check_training(cfg)
    assert RandomState.now() == before
    # the teacher's file is not read again
    monkeypatch.setattr(teacher, 'read_checkpoint', None)
    weights = torch.load(f'{cfg.work_dir}/epoch_2.pth')['state_dict']
    cfg.experiment_name = 'handed_over'
    runner = hand_over(Runner, checked).from_cfg(cfg)
    assert runner.model is checked.model
    assert RandomState.now() == after_building
    assert torch.initial_seed() == runner.seed == 3
    runner.train()
    content = torch.load(f'{cfg.work_dir}/epoch_2.pth')
    assert content['meta']['cfg'] == built.cfg.pretty_text.replace(
        "'built'", "'handed_over'")
    assert content['meta']['teacher_sha256'] == built.model.teacher_hash
    assert content['state_dict'].keys() == weights.keys()
    for key, value in content['state_dict'].items():
        assert torch.equal(value, weights[key]), key


def test_a_model_is_handed_over_where_its_random_numbers_are_the_runs(cfg):
    cfg.experiment_name = 'no_seed'  # MMEngine draws one
    checked = check_training(cfg)
    runner = hand_over(Runner, checked).from_cfg(cfg)
    assert runner.model is checked.model
    cfg.experiment_name, cfg.randomness.seed = 'other_seed', 2
    runner = hand_over(Runner, checked).from_cfg(cfg)
    assert runner.model is not checked.model


def test_corrupt_checkpoints(cfg, tmp_path):
    path = Path(cfg.model.teacher_ckpt)
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    with pytest.raises(PreflightError, match='cannot be read'):
        check_training(cfg)
    path.write_bytes(content)
    work_dir = Path(cfg.work_dir)
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(content[:500])
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    cfg.resume = True
    with pytest.raises(PreflightError, match='--resume .*cannot be read'):
        check_training(cfg)


@pytest.mark.parametrize('name, data', [
    ('sdd/sd-kd_res50_mbv1_imagenet', 'ImageNet'),
    ('sdd/sd-kd_res32x4_res8x4_cifar100', 'VerifiedCIFAR100'),
    ('sdd/sd-kd_vgg13_vgg8_cub200', 'CUB'),
])
def test_absent_data_root(name, data, tmp_path):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'nowhere')
    with pytest.raises(PreflightError) as info:
        check_training(cfg)
    message = str(info.value)
    assert data in message and 'nowhere' in message
    assert 'train_dataloader.dataset.data_root' in message
    (tmp_path / 'nowhere').mkdir()  # the folder is there, the data is not
    with pytest.raises(PreflightError, match='nowhere/.*dataset.data_root'):
        check_training(cfg)


def test_options_whose_name_the_config_does_not_know(cfg):
    check_options(cfg, {'model.teacher_ckpt': 'x', 'compile': True})
    with pytest.raises(PreflightError, match="'modl'.*model.teacher_ckpt"):
        check_options(cfg, {'modl.teacher_ckpt': 'x'})


def test_checkpoint_to_test_must_fit(cfg, tmp_path):
    from mmengine.registry import MODELS, DefaultScope
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    cfg.load_from = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=model.state_dict()), cfg.load_from)
    cfg.model.teacher_ckpt = 'nowhere.pth'  # testing needs no teacher
    check_testing(cfg)
    torch.save(model.architecture.state_dict(), cfg.load_from)
    with pytest.raises(PreflightError, match='weights are missing'):
        check_testing(cfg)


@pytest.mark.parametrize('options, message', [
    ({
        'student_loss_weight': 1.0
    }, 'Is it one of model.student_loss_weight'),
    ({
        'distill_losses.loss_sdd.loss_weight': 5.0
    }, 'model.distiller.distill_losses.loss_sdd.loss_weight'),
    ({
        'clip_grad.max_norm': 1
    }, 'optim_wrapper.clip_grad.max_norm'),
])
def test_options_that_the_config_file_has_already_used(cfg, options, message):
    with pytest.raises(PreflightError, match=f'nothing reads.*{message}'):
        check_options(cfg, options)


def test_another_teacher_on_resume_and_a_start_that_loads_nothing(
        cfg, tmp_path):
    from mmengine.registry import MODELS, DefaultScope
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    path = str(tmp_path / 'student.pth')
    cfg.merge_from_dict(dict(resume=True, load_from=path))
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(teacher_sha256='other')),
        path)
    with pytest.raises(PreflightError, match='another teacher.*other'):
        check_training(cfg)
    meta = dict(dataset_meta=dict(classes=[*'0123456798']))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    with pytest.raises(PreflightError, match="'8' is class 8 .*--resume"):
        check_training(cfg)
    with pytest.raises(PreflightError, match="'8' is class 8 .*checkpoint"):
        check_testing(cfg)
    torch.save(dict(state_dict=model.architecture.state_dict()), path)
    with pytest.raises(PreflightError, match='weights are missing'):
        check_training(cfg)
    cfg.resume = False
    with pytest.raises(PreflightError, match='none of its .*init_cfg=dict'):
        check_training(cfg)
    torch.save(dict(state_dict=model.state_dict()), path)
    check_training(cfg)


def test_data_of_other_kinds_is_left_to_mmpretrain(cfg, tmp_path):
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    check_training(cfg)
    folder = tmp_path / 'cifar-100-python'
    folder.mkdir()
    for name in ('train', 'test', 'meta'):
        (folder / name).write_text('not CIFAR')
    cfg.train_dataloader.dataset = dict(
        type='VerifiedCIFAR100', data_root=str(tmp_path), pipeline=[])
    cfg.model.architecture.head.num_classes = 100
    cfg.model.teacher = cfg.model.architecture.copy()
    cfg.model.teacher.data_preprocessor = cfg.data_preprocessor
    cfg.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    with pytest.raises(PreflightError, match='not the official'):
        check_training(cfg)


def test_data_that_the_run_will_download_need_not_be_there(cfg, tmp_path):
    cfg.train_dataloader.dataset = dict(
        type='CIFAR10',
        data_root=str(tmp_path / 'cifar'),
        pipeline=[dict(type='PackInputs')])
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.test_dataloader = None
    check_training(cfg)
    assert not (tmp_path / 'cifar').exists()
    cfg.train_dataloader.dataset.download = False
    with pytest.raises(PreflightError, match='cannot be loaded.*data_root='):
        check_training(cfg)


@pytest.fixture
def converted(cfg, tmp_path):
    """A checkpoint of the student that states other images than the run's."""
    student = cfg.model.architecture
    path = str(tmp_path / 'converted.pth')
    meta = dict(
        input_normalization=dict(
            mean=[120.0] * 3, std=[60.0] * 3, channel_order='RGB'))
    model = build_classifier(backbone=student.backbone, head=student.head)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def agree(cfg):
    """Normalize as the converted checkpoint asks, teacher and student."""
    other = dict(mean=[120.0] * 3, std=[60.0] * 3)
    cfg.data_preprocessor.update(other)
    if 'teacher' in cfg.model:
        cfg.model.teacher.data_preprocessor.update(other)


MISMATCH = 'mean .120, 120, 120.*data_preprocessor'


def test_student_starts_from_a_checkpoint_of_other_images(cfg, converted):
    cfg.model.architecture.init_cfg = dict(
        type='Pretrained', checkpoint=converted)
    with pytest.raises(
            PreflightError,
            match=f'(?s)model.architecture.init_cfg .*{MISMATCH}'):
        check_training(cfg)
    agree(cfg)
    check_training(cfg)
    cfg.model.architecture.init_cfg.checkpoint = 'gone.pth'
    with pytest.raises(
            PreflightError,
            match='model.architecture.init_cfg gone.pth does not exist'):
        check_training(cfg)


def test_plain_run_and_test_with_a_checkpoint_of_other_images(cfg, converted):
    cfg.model = cfg.model.architecture
    cfg.load_from = converted
    cfg.test_dataloader = cfg.val_dataloader
    with pytest.raises(PreflightError, match=f'(?s)load_from .*{MISMATCH}'):
        check_training(cfg)
    with pytest.raises(PreflightError, match=f'(?s)checkpoint .*{MISMATCH}'):
        check_testing(cfg)
    agree(cfg)
    check_training(cfg)
    check_testing(cfg)


@pytest.mark.parametrize('prefix, weights, message', [
    (None, {
        'conv1.weight': torch.zeros(4, 3, 3, 3),
        'fc.bias': torch.zeros(10)
    }, r'none of its 2 weights .conv1.weight, fc.bias.*model_converters'),
    (None, dict(model=dict(x=torch.zeros(1))),
     'holds no state dict of tensors.*model_converters'),
    ('head.', {
        'backbone.conv1.weight': torch.zeros(1)
    }, 'none of its 0 weights'),
])
def test_a_student_that_would_start_from_nothing(cfg, tmp_path, prefix,
                                                 weights, message):
    path = str(tmp_path / 'foreign.pth')
    torch.save(weights, path)
    cfg.model.architecture.init_cfg = dict(
        type='Pretrained', checkpoint=path, prefix=prefix)
    with pytest.raises(
            PreflightError, match=f'model.architecture.init_cfg .*{message}'):
        check_training(cfg)


def test_a_part_of_a_checkpoint_is_told(cfg, tmp_path):
    student = cfg.model.architecture
    other = build_classifier(
        backbone=student.backbone,
        head=dict(student.head, num_classes=7, topk=(1, )))
    path = str(tmp_path / 'other.pth')
    weights = other.state_dict()
    torch.save(
        dict(state_dict={
            f'module.{n}': v
            for n, v in weights.items()
        }), path)
    student.init_cfg = dict(type='Pretrained', checkpoint=path)
    log = StringIO()
    handler = logging.StreamHandler(log)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    check_training(cfg)
    logger.removeHandler(handler)
    log = log.getvalue()
    assert 'fits in part: 2 weights are of another shape: head.fc' in log


@pytest.mark.parametrize('weights', [
    {
        'conv1.weight': torch.zeros(1)
    },
    dict(model={'conv1.weight': torch.zeros(1)}, epoch=1),
])
def test_a_foreign_teacher_is_sent_to_the_converters(cfg, weights):
    torch.save(weights, cfg.model.teacher_ckpt)
    with pytest.raises(PreflightError, match='model_converters'):
        check_training(cfg)


@pytest.fixture
def files(cfg, tmp_path):
    """The same set-up on image files, which are loaded as BGR."""
    folder = tmp_path / 'images'
    for name in 'abcdefghij':
        (folder / name).mkdir(parents=True)
        mmcv.imwrite(
            np.zeros((40, 40, 3), np.uint8), str(folder / name / 'a.png'))
    for field in ('train_dataloader', 'val_dataloader'):
        cfg[field].dataset = dict(
            type='CustomDataset',
            data_root=str(folder),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='CenterCrop', crop_size=32),
                dict(type='PackInputs')
            ])
    agree(cfg)
    return cfg


def set_to_rgb(cfg, value):
    cfg.data_preprocessor.to_rgb = value
    cfg.model.teacher.data_preprocessor.to_rgb = value


def test_channels_in_another_order_than_a_converted_student_saw(
        files, converted):
    files.model.architecture.init_cfg = dict(
        type='Pretrained', checkpoint=converted)
    set_to_rgb(files, False)
    with pytest.raises(
            PreflightError,
            match='trained on RGB .* loads BGR and to_rgb=False.*makes it BGR'
    ):
        check_training(files)
    set_to_rgb(files, True)
    check_training(files)


def test_channels_in_another_order_than_a_converted_teacher_saw(files):
    path = files.model.teacher_ckpt
    meta = dict(
        input_normalization=dict(
            mean=[120.0] * 3, std=[60.0] * 3, channel_order='RGB'))
    torch.save(dict(state_dict=torch.load(path), meta=meta), path)
    set_to_rgb(files, False)
    with pytest.raises(
            PreflightError, match='teacher checkpoint .*makes it BGR.*to_rgb'):
        check_training(files)
    set_to_rgb(files, True)
    check_training(files)


@pytest.mark.parametrize('dataset, order', [
    (dict(type='CIFAR10', pipeline=[]), 'RGB'),
    (dict(type='RepeatDataset', dataset=dict(type='VerifiedCIFAR100')), 'RGB'),
    (dict(type='CUB', pipeline=[dict(type='LoadImageFromFile')]), 'BGR'),
    (dict(
        type='CUB',
        pipeline=[dict(type='LoadImageFromFile', color_type='grayscale')
                  ]), None),
    (dict(type='DigitScenes', pipeline=[]), None),
])
def test_channel_order(dataset, order):
    assert channel_order(dict(dataset=dataset)) == order


@pytest.fixture
def fast(tmp_path):
    """The demo from memory, with an untrained teacher."""
    config = Config.fromfile(CONFIGS / 'fast' / 'sd-kd_demo_fast.py')
    config.work_dir = str(tmp_path / 'run')
    config.model.teacher_ckpt = None
    config.model.allow_untrained_teacher = True
    return config


@pytest.mark.parametrize('options, message', [
    ({
        'train_dataloader.collate_fn.type': 'default_collate'
    }, "train_dataloader.collate_fn.type='batch_or_collate'"),
    ({
        'val_dataloader.dataset.dataset.test_mode': False
    }, 'val_dataloader.dataset.dataset.test_mode=True'),
    ({
        'train_dataloader.dataset.dataset.split': 'val'
    }, "train_dataloader.dataset.dataset.split='val': .*split must be"),
    ({
        'train_dataloader.dataset.dataset.pipeline':
        [dict(type='RandomErasing'),
         dict(type='PackInputs')]
    }, 'train_dataloader.dataset: .*RandomErasing'),
    ({
        'train_dataloader.dataset.devise': 'cpu'
    }, "train_dataloader.dataset.devise: .*'devise'.*'device'"),
    ({
        'model.architecture.train_cfg':
        dict(augments=dict(type='Mixup', alpha=0.2))
    }, 'train_dataloader.*cannot be used.*augments'),
    ({
        'data_preprocessor.to_onehot': True
    }, 'train_dataloader.*data_preprocessor.to_onehot'),
])
def test_mistakes_with_data_in_memory(fast, options, message):
    fast.merge_from_dict(options)
    with pytest.raises(PreflightError, match=f'(?s){message}'):
        check_training(fast)


def test_data_in_memory_pass(fast):
    check_training(fast)
    fast.train_dataloader.num_workers = 2
    fast.train_dataloader.dataset.device = 'cpu'
    check_training(fast)


@pytest.mark.parametrize('key, value', [('num_workers', 2),
                                        ('pin_memory', True)])
def test_images_on_a_gpu_need_no_workers(fast, key, value):
    fast.train_dataloader.dataset.device = 'cuda'
    check_training(fast)  # it loads nothing
    fast.train_dataloader[key] = value
    with pytest.raises(
            PreflightError, match=f"train_dataloader.{key}=.*device='cpu'"):
        check_training(fast)
