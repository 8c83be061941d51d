# Copyright (c) sdd_mm contributors. All rights reserved.
"""Suites of benchmarks, whole or killed."""
import json
import os
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.launch import TimeLimit  # noqa: E402
from benchmarks.results import recall, train_all, write  # noqa: E402
from benchmarks.runs import Run, RunError  # noqa: E402

from benchmarks.suite import SUITES, load, select  # noqa: E402 isort: skip
from benchmarks.tables import SUITES as TABLES  # noqa: E402 isort: skip
from benchmarks.suite import teacher_of  # noqa: E402
from benchmarks.suite import make_rows, make_teachers  # noqa: E402
from benchmarks.suite import run as run_suite  # noqa: E402

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


def start(work_dir, suite, teacher, *arguments):
    command = [
        sys.executable, ROOT / 'tools' / 'benchmark' / 'reproduce.py', suite,
        '--work-dir', work_dir, '--teacher-ckpt', teacher, *arguments
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
    killed = start(tmp_path / 'killed', suite, teacher, '--jobs', '2')
    while not any('top1' in path.read_text()  # one has come to an epoch's end
                  for path in tmp_path.rglob('scalars.json')):
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list((tmp_path / 'killed').glob('small/small.*'))
    for name in ('whole', 'killed'):
        process = start(tmp_path / name, suite, teacher, '--jobs', '2')
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


@pytest.fixture
def rows_of(teacher, tmp_path):
    """The rows of a suite, of its first seed."""

    def make(name, gpus=1, **options):
        suite = load(name)
        return make_rows(suite, suite.seeds[:1], tmp_path, options,
                         lambda config: config and str(teacher), gpus)

    return make


def test_a_suite_may_have_its_teacher_in_the_repository(tmp_path):
    suite = load('cifar100-20')
    suite['teacher_ckpt'] = 'benchmarks/teachers/absent.pth'
    with pytest.raises(RunError, match='benchmarks/teachers/absent.pth does'):
        run_suite(suite, tmp_path / 'x.json', tmp_path, [0], {})
    assert not list(tmp_path.iterdir())


def test_what_the_table_has_is_not_trained_again(rows_of, tmp_path):
    rows = rows_of('demo')
    accuracy = {str(epoch): 10. + epoch for epoch in range(1, 13)}
    facts = dict.fromkeys(
        ('processor', 'gpu', 'threads', 'python', 'torch', 'cuda', 'mmengine',
         'mmpretrain', 'mmrazor', 'commit'), ['x'])
    found = [
        dict(
            directory=run.directory.name,
            seconds=7,
            accuracy=accuracy,
            facts=facts) for run in (rows['KD'].runs[0], rows['DKD'].runs[0])
    ]
    path = tmp_path / 'table.json'
    recall(path, rows)  # there is none yet
    path.write_text(json.dumps(dict(rows=[dict(runs=found)])))
    rows['DKD'].runs[0].directory.mkdir(parents=True)  # this one goes on
    recall(path, rows)
    assert [title for title, row in rows.items() if row.done()] == ['KD']
    run = next(train_all({'KD': rows['KD']}))
    assert run.accuracy()[12] == 22 and run.seconds() == 7
    assert not run.directory.exists()
    write(path, {'KD': rows['KD']}, [])
    written = json.loads(path.read_text())['rows'][0]['runs'][0]
    assert {key: written[key] for key in found[0]} == found[0]


@pytest.mark.parametrize('patterns, rows', [
    (['KD'], ['KD']),
    (['sd-kd_*_shuv1_*'], None),
    (['*: SD-DKD', 'dkd_*'], None),
    (['nothing'], []),
])
def test_some_rows_alone(patterns, rows):
    suite = load('cifar100-paper' if rows != ['KD'] else 'cifar100-20')
    everything = dict(suite.rows)
    if rows == []:
        with pytest.raises(RunError, match='--only nothing matches none'):
            select(suite, patterns)
        return
    select(suite, patterns)
    assert suite.rows and set(suite.rows) < set(everything)
    for title, row in suite.rows.items():
        assert everything[title] == row
        assert any(
            fnmatch(name, pattern) for pattern in patterns
            for name in (title, Path(row.config).stem))


def test_nothing_starts_when_the_time_is_over(rows_of, tmp_path, capsys):
    rows = {'SD-KD': rows_of('demo')['SD-KD, M = {1, 2, 4}']}
    with TimeLimit(0) as limit:
        run, = train_all(rows, limit=limit)
    assert not run.directory.exists()
    assert 'the time is over' in capsys.readouterr().out
    assert not TimeLimit(1).over() and not TimeLimit().over()


@pytest.mark.parametrize('name',
                         [path.stem
                          for path in SUITES.glob('*.py')] + list(TABLES))
def test_suites(name, rows_of, tmp_path):
    suite = load(name)
    teachers = make_teachers(suite, tmp_path, {})
    assert len(teachers) == dict(
        imagenet=0, table3=0, cub200=3, table1=3, table2=4,
        table4=3).get(name, 1)
    for row in teachers.values():  # options for students are none for them
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            MODELS.build(row.runs[0].cfg.model)
    imagenet = name in ('imagenet', 'table3')
    gpus = 8 if imagenet else 1
    rows = rows_of(name, gpus)
    # Table 8 has one row twice
    assert len({row.runs[0].directory
                for row in rows.values()}) == len(rows) - (
                    name == 'table8')
    published = [row.paper for row in rows.values() if row.paper is not None]
    assert bool(published) == (
        name in ('cifar100-paper', 'cub200', 'imagenet', *TABLES))
    for title, row in rows.items():
        cfg = row.runs[0].cfg
        if 'teacher_ckpt' in cfg.model:
            assert teacher_of(suite, suite.rows[title]) or imagenet
        # the learning rate is meant for the images of a step
        if 'auto_scale_lr' in cfg:
            assert (gpus * cfg.train_dataloader.batch_size ==
                    cfg.auto_scale_lr.base_batch_size)
        if name == 'cifar100-short':
            assert row.runs[0].max_epochs == 60
            epochs = [
                hook.epochs for hook in cfg.custom_hooks
                if hook.type == 'DistillWarmupHook'
            ]
            assert epochs == ([] if '/kd_' in row.config
                              or '/sd-kd_' in row.config else [5])


def test_a_learning_rate_for_other_images_per_step_is_refused(rows_of):
    with pytest.raises(
            RunError,
            match='meant for 512 images per step, but --gpus 1 makes 64: '
            'use --gpus 8, or scale .* auto_scale_lr.enable=True'):
        rows_of('imagenet')
    with pytest.raises(RunError, match='--gpus 2 makes 128: use --gpus 1'):
        rows_of('cub50', gpus=2)
    with pytest.raises(RunError, match='512 .* makes 100: set train_data'):
        rows_of('imagenet', **{'train_dataloader.batch_size': 100})
    # a config that states no base is meant for itself on one device
    with pytest.raises(RunError, match='meant for 64 .* makes 128: [^,]*1$'):
        rows_of('demo', gpus=2)
    rows = rows_of('demo', gpus=2, **{'train_dataloader.batch_size': 32})
    assert all(row.options for row in rows.values())
    # a scaled run is another run, and stands beside no published number
    rows = [
        rows_of('imagenet', gpus, **options)
        for gpus, options in ((8, {}), (1, {
            'auto_scale_lr.enable': True
        }), (2, {
            'auto_scale_lr.enable': True
        }))
    ]
    runs = [next(iter(one.values())).runs[0] for one in rows]
    assert len({run.directory for run in runs}) == 3
    assert [
        any(row.paper is not None for row in one.values()) for one in rows
    ] == [True, False, False]


@pytest.mark.long
def test_two_processes_train_one_run(tmp_path):
    options = {
        'train_dataloader.dataset.num_scenes': 128,
        'train_dataloader.batch_size': 32,
        'val_dataloader.dataset.num_scenes': 20,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1
    }
    run = Run(
        ROOT / 'configs' / 'demo' / 'student.py', tmp_path, options, gpus=2)
    run.train()
    assert run.done()
    assert run.facts()['gpu'] == ['2 x no GPU']
    log, = run.directory.glob('*/*.log')
    # 128 images, 64 of them per step
    assert 'Epoch(train) [1][2/2]' in log.read_text()


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(RunError, match="only .*Did you mean 'demo'"):
        load('dmo')
