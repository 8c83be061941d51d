# Copyright (c) sdd_mm contributors. All rights reserved.
"""Suites of benchmarks, whole or killed."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools' / 'benchmark'))
import reproduce  # noqa: E402
from runs import RunError, check_options  # noqa: E402

MINIATURE = '''
teacher = 'configs/demo/teacher.py'
seeds = [0]
options = {
    'train_dataloader.dataset.num_scenes': 128,
    'val_dataloader.dataset.num_scenes': 100,
    'train_cfg.max_epochs': 3
}
rows = {
    'student alone': dict(config='configs/demo/student.py'),
    'SD-KD': dict(config='configs/demo/sd-kd.py', panel='SD-KD'),
    'too fast': dict(
        config='configs/demo/student.py',
        options={'optim_wrapper.optimizer.lr': 1e38, 'param_scheduler': []}),
}
notes = ['A miniature.']
'''


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A checkpoint that the demo's teacher takes."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'teacher.py')
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(MODELS.build(cfg.model).state_dict(), path)
    return path


def start(work_dir, suite, teacher):
    command = [
        sys.executable, reproduce.__file__, suite, '--work-dir', work_dir,
        '--teacher-ckpt', teacher, '--jobs', '2'
    ]
    return subprocess.Popen(
        list(map(str, command)),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            OMP_NUM_THREADS='1',
            PYTHONUNBUFFERED='1'))


@pytest.mark.long
def test_a_killed_suite_ends_as_if_it_had_never_been(tmp_path, teacher):
    suite = tmp_path / 'small.py'
    suite.write_text(MINIATURE)
    killed = start(tmp_path / 'killed', suite, teacher)
    while not any('top1' in path.read_text()  # one has come to an epoch's end
                  for path in tmp_path.rglob('scalars.json')):
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list((tmp_path / 'killed').glob('small/small.*'))
    for name in ('whole', 'killed'):
        process = start(tmp_path / name, suite, teacher)
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert 'epochs are done' in output and 'Written to' in output
    whole, again = (
        tmp_path / name / 'small' / 'small.md' for name in ('whole', 'killed'))
    assert whole.read_text() == again.read_text()
    assert '| SD-KD | ' in whole.read_text()
    assert whole.with_suffix('.png').stat().st_size > 10000
    assert '| too fast |  |  |  |  | 0 |' in whole.read_text()
    rows = json.loads(whole.with_suffix('.json').read_text())['rows']
    assert [row['diverged'] for row in rows] == [[], [], [0]]
    assert [row['config'] for row in rows] == [
        f'configs/demo/{name}.py' for name in ('student', 'sd-kd', 'student')
    ]
    assert rows[2]['options']['param_scheduler'] == []
    runs = [row['runs'][0] for row in rows[:2]]
    for run in runs:
        assert run['epochs'] == 3 and list(run['accuracy']) == list('123')
        assert run['seed'] == 0 and run['seconds'] > 0
        assert run['facts']['torch'] == [torch.__version__]


@pytest.mark.parametrize('name',
                         [path.stem for path in reproduce.SUITES.glob('*.py')])
def test_suites(name, teacher, tmp_path):
    suite = reproduce.load(name)
    teachers = reproduce.find_teachers(suite, tmp_path, {})
    assert len(teachers) == dict(imagenet=0, cub200=3).get(name, 1)
    for row in teachers.values():  # options for students are none for them
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            MODELS.build(row.runs[0].cfg.model)
    given = dict.fromkeys(teachers, str(teacher))
    rows = reproduce.make_rows(suite, suite.seeds[:1], tmp_path, {}, given)
    assert len({row.runs[0].directory for row in rows.values()}) == len(rows)
    published = [row.paper for row in rows.values() if row.paper is not None]
    assert bool(published) == (
        name in ('cifar100-paper', 'cub200', 'imagenet'))
    for row in rows.values():
        run, = row.runs
        check_options(run.cfg, {})
        if name == 'cifar100-short':
            assert run.max_epochs == 60
            epochs = [
                hook.epochs for hook in run.cfg.custom_hooks
                if hook.type == 'DistillWarmupHook'
            ]
            assert epochs == ([] if '/kd_' in row.config
                              or '/sd-kd_' in row.config else [5])


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(RunError, match="only .*Did you mean 'demo'"):
        reproduce.load('dmo')
