# Copyright (c) sdd_mm contributors. All rights reserved.
"""The commands, run as a user runs them."""
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import commands
import mmpretrain
import pytest
import torch

import sdd_mm

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'configs' / 'demo'
SMALL = [
    'train_dataloader.dataset.num_scenes=320',
    'val_dataloader.dataset.num_scenes=200', 'train_cfg.max_epochs=2',
    'param_scheduler.total_steps=3', 'default_hooks.logger.interval=5'
]


def command(script, *args, check=True, cwd=ROOT, imported=True):
    """Run a script, by itself if what was imported before it matters."""
    if imported:
        result = commands.run(script, *args, cwd=cwd)
    else:
        result = subprocess.run(
            [sys.executable, str(script), *map(str, args)],
            cwd=cwd,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True)
    if check:
        assert result.returncode == 0, result.stdout
    return result


def train(config, work_dir, *args, options=(), **kwargs):
    return command(ROOT / 'tools' / 'train.py', config, '--work-dir', work_dir,
                   *args, '--cfg-options', *SMALL, *options, **kwargs)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A teacher that is really trained, if not for long."""
    work_dir = tmp_path_factory.mktemp('teacher')
    train(DEMO / 'teacher.py', work_dir, imported=False)
    return work_dir / 'epoch_2.pth'


@pytest.fixture(scope='module')
def run(tmp_path_factory, teacher):
    """SD-DKD end to end: train, validate, save."""
    work_dir = tmp_path_factory.mktemp('sd-dkd')
    result = train(
        DEMO / 'sd-dkd.py',
        work_dir,
        options=[f'model.teacher_ckpt={teacher}'])
    return work_dir, result.stdout


def scalars(work_dir):
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in files[-1].read_text().splitlines()]


def test_training_runs_end_to_end(run):
    work_dir, output = run
    assert '21 cells per image' in output
    rows = [row for row in scalars(work_dir) if 'distill.loss_sdd' in row]
    assert rows and all('sdd/complementary' in row for row in rows)
    assert [r['step'] for r in scalars(work_dir)
            if 'accuracy/top1' in r] == [1, 2]
    state = torch.load(work_dir / 'epoch_2.pth')['state_dict']
    assert state and not [n for n in state if n.startswith('teacher.')]


def test_resume_continues(run, teacher):
    work_dir, _ = run
    result = train(
        DEMO / 'sd-dkd.py',
        work_dir,
        '--resume',
        options=[f'model.teacher_ckpt={teacher}', 'train_cfg.max_epochs=3'])
    assert 'resumed epoch: 2' in result.stdout
    # nothing says that the second epoch was validated before the run ended
    assert [r['step'] for r in scalars(work_dir)
            if 'accuracy/top1' in r] == [2, 3]


def test_test_needs_no_teacher_and_finds_the_same_accuracy(run, tmp_path):
    work_dir, _ = run
    accuracy = [
        row['accuracy/top1'] for row in scalars(work_dir)
        if 'accuracy/top1' in row
    ][-1]
    newest = (work_dir / 'last_checkpoint').read_text()
    command(ROOT / 'tools' / 'test.py', DEMO / 'sd-dkd.py', newest,
            '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json',
            '--out-item', 'metrics', '--cfg-options',
            'test_dataloader.dataset.num_scenes=200')
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(accuracy)


def test_mmpretrains_own_train_command_and_teacher(teacher, tmp_path):
    """custom_imports alone repair the stack in time."""
    script = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / 'train.py'
    result = command(
        script,
        DEMO / 'sd-kd.py',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        *SMALL,
        f'model.teacher_ckpt={teacher}',
        imported=False)
    assert 'distill.loss_sdd' in result.stdout
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_as_mim_trains_an_installed_package(teacher, tmp_path):
    """`mim train sdd_mm CONFIG --gpus 0` looks for these and calls them so."""
    mim = Path(sdd_mm.__file__).parent / '.mim'
    if not mim.exists():
        pytest.skip('sdd_mm is not installed from this checkout')
    script = mim / 'tools' / 'train.py'
    assert '--gpus' not in script.read_text()  # or it would pass --device
    config = (mim / 'configs' / 'demo' / 'sd-kd.py').resolve()
    result = command(
        script,
        config,
        '--launcher',
        'none',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_dataloader.dataset.num_scenes=64',
        'val_dataloader.dataset.num_scenes=20',
        'train_cfg.max_epochs=1',
        'param_scheduler.total_steps=2',
        f'model.teacher_ckpt={teacher}',
        imported=False)
    assert 'distill.loss_sdd' in result.stdout
    assert (tmp_path / 'epoch_1.pth').is_file()


def test_smoke_of_grey_images(tmp_path):
    path = tmp_path / 'grey.py'
    path.write_text(f'''
_base_ = '{DEMO}/student.py'
data_preprocessor = dict(mean=[64], std=[64])
model = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.ResNet_CIFAR', depth=18, in_channels=1,
        stem_channels=8, base_channels=8),
    head=dict(in_channels=64))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='CustomDataset', data_root='/nowhere',
        pipeline=[dict(type='LoadImageFromFile', color_type='grayscale'),
                  dict(type='Resize', scale=(32, 32)),
                  dict(type='PackInputs')]))
''')
    out = command(ROOT / 'tools' / 'train.py', path, '--smoke', '1',
                  '--work-dir', tmp_path).stdout
    assert re.search(r'Epoch\(train\) +\[1\]\[1/1\]', out)


def test_smoke_says_what_it_is_and_saves_nothing(tmp_path):
    start = time.monotonic()
    result = command(
        ROOT / 'tools' / 'train.py',
        ROOT / 'configs' / 'sdd' / 'sd-kd_res32x4_res8x4_cifar100.py',
        '--smoke', 2, '--work-dir', tmp_path, '--cfg-options',
        'train_dataloader.batch_size=4')
    # its workers end with it
    assert time.monotonic() - start < 60
    assert 'Exception ignored' not in result.stdout
    assert result.stdout.count('SMOKE RUN: 2 iterations') == 2
    assert 'UNTRAINED TEACHER' in result.stdout
    assert 'Epoch(val)' not in result.stdout
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\]', result.stdout)
    assert not list(tmp_path.rglob('*.pth'))
    assert [path.name for path in tmp_path.iterdir()] == ['smoke']


def test_a_mistake_is_one_line_and_an_exit_code(tmp_path):
    result = train(
        DEMO / 'sd-kd.py',
        tmp_path / 'run',
        options=['model.teacher_ckpt=nowhere.pth'],
        check=False)
    assert result.returncode == 1
    assert 'ERROR' in result.stdout and 'nowhere.pth' in result.stdout
    assert 'Traceback' not in result.stdout
    assert not (tmp_path / 'run').exists()


def test_a_loss_that_is_not_finite_is_one_line(teacher, tmp_path):
    result = train(
        DEMO / 'sd-kd.py',
        tmp_path,
        options=[
            f'model.teacher_ckpt={teacher}', 'param_scheduler=[]',
            'optim_wrapper.optimizer.lr=1e30'
        ],
        check=False)
    assert result.returncode == 1, result.stdout
    assert 'ERROR' in result.stdout and 'NonFiniteError' in result.stdout
    assert 'Traceback' not in result.stdout


def test_distributed_launch_on_two_processes(teacher, tmp_path):
    environ = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS='1',
        PORT='29517',
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    result = subprocess.run([
        'bash', ROOT / 'tools' / 'dist_train.sh', DEMO / 'sd-kd.py', '2',
        '--work-dir', tmp_path, '--cfg-options', *SMALL,
        'train_cfg.max_epochs=1', f'model.teacher_ckpt={teacher}'
    ],
                            env=environ,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            text=True)
    assert result.returncode == 0, result.stdout
    assert 'Epoch(train) [1][3/3]' in result.stdout


def test_a_cache_filled_ahead_leaves_the_teacher_nothing(teacher, tmp_path):
    config = ROOT / 'configs' / 'fast' / 'sd-kd_demo_fast.py'
    options = [
        'train_dataloader.dataset.dataset.num_scenes=64',
        'val_dataloader.dataset.dataset.num_scenes=20',
        'train_cfg.max_epochs=1', 'param_scheduler.total_steps=2',
        f'model.teacher_ckpt={teacher}'
    ]
    script = ROOT / 'tools' / 'fill_teacher_cache.py'
    refused = command(
        script, DEMO / 'sd-kd.py', '--cfg-options', options[-1], check=False)
    assert refused.returncode == 1
    assert 'there is no cache to fill' in refused.stdout
    assert 'Traceback' not in refused.stdout
    # its folder is below the current one
    found = command(
        script, config, '--cfg-options', *options, cwd=tmp_path).stdout
    assert '0.00% of it filled' in found and '100.00% of it filled' in found
    output = command(
        ROOT / 'tools' / 'train.py',
        config,
        '--cfg-options',
        *options,
        cwd=tmp_path).stdout
    assert 'the teacher ran on 0 of 64 views' in output


def test_a_default_hook_that_is_none_is_left_out(tmp_path):
    output = train(
        DEMO / 'student.py',
        tmp_path,
        options=[
            'default_hooks.exact_resume=None', 'default_hooks.timer=None',
            'train_cfg.max_epochs=1'
        ]).stdout
    hooks = set(re.findall(r'^\(\w+ *\) (\w+)', output, re.M))
    assert 'Epoch(val) [1]' in output and 'LoggerHook' in hooks
    assert not hooks & {'ExactResumeHook', 'IterTimerHook'}
