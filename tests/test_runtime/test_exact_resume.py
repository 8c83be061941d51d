# Copyright (c) sdd_mm contributors. All rights reserved.
"""A run that was stopped and resumed is the run that was not."""
import ast
import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import commands
import pytest
import torch
from baselines import LOGITS, distiller, rotation_distiller
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.fileio import put_text
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict, save_checkpoint
from mmrazor.registry import MODELS
from torch.utils.data import DataLoader
from toy import PREPROCESSOR, algorithm, build_classifier, classifier

from sdd_mm.models.algorithms import TEACHER_META
from sdd_mm.runtime.checkpoints import ATOMIC, is_whole, newest_checkpoint
from sdd_mm.runtime.errors import CheckpointError
from sdd_mm.runtime.sample_seeding import Worker, numbered

COUNT = itertools.count()
FOLDER = tempfile.TemporaryDirectory()


@lru_cache(maxsize=None)
def teacher():
    """A checkpoint of a teacher."""
    torch.manual_seed(1)
    model = build_classifier(width=8)
    path = Path(FOLDER.name) / 'teacher.pth'
    save_checkpoint(
        dict(meta=dict(), state_dict=get_state_dict(model)), str(path))
    return str(path)


PIPELINE = [
    dict(type='RandomCrop', crop_size=32, padding=2),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]


@lru_cache(maxsize=None)
def rotation_head():
    """A checkpoint of a head of the teacher, for SSKD."""
    model = MODELS.build(
        dict(
            type='RotationHead',
            _scope_='mmrazor',
            teacher=classifier(width=8, data_preprocessor=PREPROCESSOR),
            teacher_ckpt=teacher(),
            channels=32,
            data_preprocessor=dict(PREPROCESSOR)))
    model.init_weights()
    path = Path(FOLDER.name) / 'head.pth'
    save_checkpoint(
        dict(
            meta={TEACHER_META: model.teacher_hash},
            state_dict=get_state_dict(model)), str(path))
    return str(path)


def compare_with(method, cfg):
    """Train by one of the methods that SDD is compared with."""
    model, (average, *_) = cfg['model'], cfg['custom_hooks']
    model['architecture'].pop('train_cfg', None)
    cfg['custom_hooks'] = [average]
    if method == 'sskd':
        model.update(
            type='RotationDistill',
            distiller=rotation_distiller(LOGITS, teacher_head=rotation_head()))
        return
    own = dict(num_data=22) if method == 'crd' else {}
    model['distiller'] = distiller(method, **own)
    if method == 'crd':
        cfg['custom_hooks'].append(dict(type='TrainingLabelsHook'))


def scenes(in_memory, **kwargs):
    data = dict(
        type='DigitScenes',
        num_scenes=22,
        serialize_data=False,  # it collects the garbage of all other tests
        pipeline=PIPELINE,
        **kwargs)
    if in_memory:
        return dict(type='InMemoryDataset', dataset=data)
    return data


def config(work_dir,
           in_memory=False,
           by_epoch=True,
           workers=0,
           cache_in_files=False,
           method=None,
           **kwargs):
    """A distillation with everything that could be lost."""
    loader = dict(
        batch_size=4,
        num_workers=workers,
        dataset=scenes(in_memory, split='train'),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(
            type='batch_or_collate' if in_memory else 'default_collate'))
    model = algorithm(
        student_loss_weight=1.0,
        teacher_ckpt=teacher(),
        allow_untrained_teacher=False)
    model['architecture']['head']['loss']['label_smooth_val'] = 0.1
    model['architecture']['head']['loss']['type'] = 'LabelSmoothLoss'
    model['architecture']['train_cfg'] = dict(
        augments=[dict(type='Mixup', alpha=0.5)])
    hooks = [
        dict(type='EMAHook', momentum=0.1),
        dict(
            type='DistillWarmupHook',
            loss='loss_sdd',
            epochs=2,
            by_epoch=False)
    ]
    if in_memory:
        model['architecture'].pop('train_cfg')
        hooks.append(dict(type='TeacherCacheHook'))
        if cache_in_files:
            hooks[-1]['cache_dir'] = str(Path(work_dir) / 'teachers')
    cfg = dict(
        model=model,
        work_dir=str(work_dir),
        experiment_name=f'exact_{next(COUNT)}',
        train_dataloader=loader,
        val_dataloader=dict(
            loader,
            dataset=scenes(False, split='test'),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='Accuracy', topk=(1, )),
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(
            type='DeferredOptimWrapper',
            accumulative_counts=4,
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        param_scheduler=dict(
            type='CosineAnnealingLR', T_max=18, by_epoch=False),
        default_hooks=dict(
            scalars=dict(type='DeferredScalarsHook'),
            logger=dict(type='LoggerHook', interval=2),
            checkpoint=dict(
                type='CheckpointHook', interval=1, by_epoch=by_epoch),
            finite_loss=dict(type='FiniteLossHook'),
            exact_resume=dict(type='ExactResumeHook')),
        custom_hooks=hooks,
        default_scope='mmpretrain',
        randomness=dict(seed=5, deterministic=torch.cuda.is_available()))
    if not by_epoch:
        cfg.update(
            train_cfg=dict(by_epoch=False, max_iters=14, val_interval=4))
        cfg['default_hooks']['checkpoint']['interval'] = 3
        cfg['custom_hooks'] = hooks[:1]
    if method is not None:
        compare_with(method, cfg)
    cfg.update(kwargs)
    return cfg


class StopAt(Hook):
    """Sends a signal, or fails, in an iteration."""

    def __init__(self, iteration, number=None):
        self.iteration, self.number = iteration, number

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        if runner.iter != self.iteration:
            return
        if self.number is None:
            raise ZeroDivisionError
        os.kill(os.getpid(), self.number)


def build(cfg, hooks=()):
    # formatting the text of a config takes as long as the run
    runner = Runner.from_cfg(Config(cfg, format_python_code=False))
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def final(work_dir, by_epoch=True):
    return torch.load(
        Path(work_dir) / ('epoch_3.pth' if by_epoch else 'iter_14.pth'))


def same(one, other, path=''):
    """Compare two checkpoints; times are no result."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            if not (isinstance(key, str) and
                    ('time' in key
                     or key in ('cfg', 'experiment_name', 'mmengine_version',
                                'last_ckpt', 'memory'))):
                same(one[key], other[key], f'{path}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other)):
            same(*pair, f'{path}.{number}')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif hasattr(one, 'data') and hasattr(one, '_log_history'):
        for a, b in zip(one.data, other.data):
            assert a.tolist() == b.tolist(), path
    elif not callable(one):
        assert one == other, path


def lines(work_dir):
    """What was logged last of every step, but times."""
    found = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = {
                key: value
                for key, value in json.loads(line).items()
                if 'time' not in key and key != 'memory'
            }
            found['iter' in row, row['step']] = row
    return found


CASES = [
    dict(in_memory=False),
    dict(in_memory=True),
    dict(by_epoch=False),
    dict(in_memory=True, by_epoch=False)
]


@pytest.fixture(scope='module', params=CASES, ids=str)
def whole(request, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    build(config(work_dir, **request.param)).train()
    return work_dir, request.param


# of epochs of 6 iterations, with gradients of 4 that are summed
@pytest.mark.parametrize('number, iteration', [
    pytest.param(
        number,
        iteration,
        marks=[pytest.mark.long] * (iteration in (0, 8, 11)))
    for number in (None, signal.SIGTERM) for iteration in (0, 7, 8, 11, 12)
])
def test_resumed_is_uninterrupted(whole, tmp_path, iteration, number):
    first, case = whole
    by_epoch = case.get('by_epoch', True)
    stop = StopAt(iteration, number)
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit if number else ZeroDivisionError) as info:
        build(config(tmp_path, **case), [stop]).train()
    assert before == [
        signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)
    ]
    if number:
        assert info.value.code == 128 + number
        assert (tmp_path / 'stopped.pth').is_file()
    checkpoint = newest_checkpoint(tmp_path)
    cfg = config(tmp_path, **case)
    cfg.update(resume=checkpoint is not None, load_from=checkpoint)
    # whatever was drawn before, and another seed until it is loaded
    cfg['randomness']['seed'] = None if checkpoint else 5
    build(cfg).train()
    same(final(first, by_epoch), final(tmp_path, by_epoch))
    assert lines(first) == lines(tmp_path)


@pytest.mark.parametrize('method', ['crd', 'mgd', 'sskd'])
def test_other_methods_resume(method, tmp_path):
    """Memory and Z, masks, views and heads; also the average of EMAHook."""
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    build(config(whole, method=method)).train()
    with pytest.raises(SystemExit):
        build(config(parts, method=method),
              [StopAt(8, signal.SIGTERM)]).train()
    cfg = config(parts, method=method)
    cfg.update(resume=True, load_from=newest_checkpoint(parts))
    build(cfg).train()
    same(final(whole), final(parts))
    assert lines(whole) == lines(parts)


def test_another_seed_is_another_run(tmp_path):
    """Or the tests above would compare nothing."""
    cfgs = [config(tmp_path / name) for name in 'ab']
    cfgs[1]['randomness']['seed'] = 6
    for cfg in cfgs:
        build(cfg).train()
    with pytest.raises(AssertionError):
        same(*(final(cfg['work_dir'])['state_dict'] for cfg in cfgs))


@pytest.mark.parametrize('in_memory', [False, True])
def test_workers_change_nothing(tmp_path, in_memory):
    states = []
    for workers in (0, 1, 2):
        cfg = config(tmp_path / str(workers), in_memory, workers=workers)
        cfg['train_cfg']['max_epochs'] = 2
        if in_memory:
            cfg['train_dataloader']['dataset']['device'] = 'cpu'
        build(cfg).train()
        states.append(
            torch.load(tmp_path / str(workers) / 'epoch_2.pth')['state_dict'])
    same(states[0], states[1])
    same(states[0], states[2])


def test_a_dataloader_keeps_every_setting():

    def begin(worker):
        pass

    loader = DataLoader(
        range(8),
        batch_size=4,
        num_workers=1,
        in_order=False,
        timeout=3,
        prefetch_factor=5,
        persistent_workers=True,
        drop_last=True,
        worker_init_fn=begin,
        generator=torch.Generator(),
        pin_memory_device='cuda',
        multiprocessing_context='fork')
    list(loader)  # its workers persist, and know the old data set
    found = numbered(loader, seed=1, rank=0, world_size=1)
    changed = {
        name
        for name, value in vars(loader).items() if vars(found)[name] != value
    }
    assert changed == {
        'dataset', 'batch_sampler', 'worker_init_fn', '_iterator'
    }
    assert found.batch_size == 4 and found.worker_init_fn.begin is begin
    assert sorted(torch.cat(list(found)).tolist()) == list(range(8))


def test_a_hook_that_asks_for_the_batch_size(tmp_path):
    cfg = config(tmp_path)
    cfg['custom_hooks'] = [dict(type='PreciseBNHook', num_samples=8)]
    cfg['train_cfg']['max_epochs'] = 1
    build(cfg).train()
    logs = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'BN found, run 2 iters' in logs


def test_other_data_cannot_go_on_exactly(tmp_path):
    with pytest.raises(SystemExit):
        build(config(tmp_path), [StopAt(7, signal.SIGTERM)]).train()
    cfg = config(tmp_path, resume=True)
    cfg['load_from'] = newest_checkpoint(tmp_path)
    cfg['train_dataloader']['batch_size'] = 11
    build(cfg).train()
    logs = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'cannot go on exactly' in logs


def test_a_second_signal_ends_at_once(tmp_path):

    class Twice(StopAt):

        def after_train_iter(self, runner, batch_idx, **kwargs):
            super().after_train_iter(runner, batch_idx)
            super().after_train_iter(runner, batch_idx)

    # in the background Ctrl-C is ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build(config(tmp_path), [Twice(2, signal.SIGINT)]).train()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / 'stopped.pth').exists()


def plateau(work_dir):
    """The best epoch is saved again after its validation, which steps."""
    cfg = config(work_dir)
    cfg['param_scheduler'] = dict(
        type='ReduceOnPlateauLR',
        monitor='accuracy/top1',
        rule='greater',
        factor=0.5,
        patience=1,
        threshold=1000.)
    cfg['default_hooks']['checkpoint'].update(
        save_best='accuracy/top1', rule='greater')
    return cfg


def early(work_dir):
    """Ends after two epochs that are no better."""
    cfg = config(work_dir)
    cfg['optim_wrapper']['optimizer']['lr'] = 1e-9
    cfg['custom_hooks'].append(
        dict(
            type='EarlyStoppingHook',
            monitor='accuracy/top1',
            min_delta=50.,
            patience=2))
    cfg['train_cfg']['max_epochs'] = 6
    return cfg


@pytest.mark.parametrize('make', [plateau, early])
@pytest.mark.parametrize('number, iteration', [(None, 6),
                                               (signal.SIGTERM, 13)])
def test_hooks_and_schedules_that_hear_of_validations_go_on(
        tmp_path, make, number, iteration):
    build(make(tmp_path / 'whole')).train()
    work_dir = tmp_path / 'run'
    with pytest.raises(SystemExit if number else ZeroDivisionError):
        build(make(work_dir), [StopAt(iteration, number)]).train()
    cfg = make(work_dir)
    cfg.update(resume=True, load_from=newest_checkpoint(work_dir))
    build(cfg).train()
    found = [
        sorted(path.name for path in folder.glob('epoch_*.pth'))
        for folder in (tmp_path / 'whole', work_dir)
    ]
    assert found[0] == found[1] and len(found[0]) == 3
    same(final(tmp_path / 'whole'), final(work_dir))
    assert lines(tmp_path / 'whole') == lines(work_dir)
    if make is early:  # and does not begin again
        cfg = make(work_dir)
        cfg.update(resume=True, load_from=str(work_dir / 'epoch_3.pth'))
        build(cfg).train()
        assert not (work_dir / 'epoch_4.pth').exists()


def test_checkpoints_of_a_run_are_the_old_or_the_new(tmp_path, monkeypatch):
    """A failure stands for a kill: what is in place is never touched."""
    cfg = config(tmp_path)
    cfg['train_cfg']['max_epochs'] = 1
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'old')

    def fails(descriptor):
        assert path.read_bytes() == b'old'
        raise OSError('no space left')

    monkeypatch.setattr(os, 'fsync', fails)
    with pytest.raises(OSError, match='no space left'):
        build(cfg).train()
    assert path.read_bytes() == b'old'
    assert not list(tmp_path.glob('.*.part'))


def test_links_stay_links_and_special_files_special(tmp_path):
    link, fifo = tmp_path / 'link.pth', tmp_path / 'fifo.pth'
    link.symlink_to(tmp_path / 'target.pth')
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    for path in (link, fifo, tmp_path / 'new' / 'file.pth'):
        put_text('content', path, backend_args=ATOMIC)
    assert link.is_symlink() and fifo.is_fifo()
    assert os.read(reader, 99) == b'content'
    os.close(reader)
    for name in ('target.pth', 'new/file.pth'):
        assert (tmp_path / name).read_text() == 'content'


@pytest.mark.parametrize('damage',
                         ['cut', 'flip', 'directory', 'empty', 'text'])
def test_the_newest_whole_checkpoint(tmp_path, damage):
    assert newest_checkpoint(tmp_path) is None
    for number, name in enumerate(('epoch_1', 'epoch_2', 'best_x_epoch_2')):
        path = tmp_path / f'{name}.pth'
        torch.save(dict(state_dict=dict(a=torch.rand(1000))), path)
        os.utime(path, (number, number))
        assert is_whole(path)
    path = tmp_path / 'epoch_2.pth'
    assert newest_checkpoint(tmp_path) == str(path)
    data = bytearray(path.read_bytes())
    if damage == 'flip':
        data[len(data) // 2] ^= 1
    elif damage == 'directory':  # an attribute that says it is encrypted
        data[data.rfind(b'PK\x01\x02') + 8] ^= 1
    path.write_bytes({
        'cut': data[:-100],
        'flip': data,
        'directory': data,
        'empty': b'',
        'text': b'a checkpoint'
    }[damage])
    os.utime(path, (1, 1))
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')
    (tmp_path / 'epoch_1.pth').unlink()
    with pytest.raises(CheckpointError, match='remove them to start'):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize('step', [7, pytest.param(1, marks=pytest.mark.long)])
def test_a_flipped_bit_loads_no_other_values(tmp_path, step):
    """Anywhere in a file: headers have no checksum."""
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(a=torch.rand(50), b=torch.rand(20), epoch=1), path)
    saved, data = torch.load(path), path.read_bytes()
    refused = 0
    for bit in range(0, 8 * len(data), step):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if is_whole(path):
            same(torch.load(path), saved)
        else:
            refused += 1
    assert refused * step > 8 * 50 * 4  # the values' own bits at least


@pytest.mark.parametrize('count',
                         [3, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_random_moments(count):
    """In a process of its own, which may fork."""
    result = commands.run(commands.ROOT / 'tests' / 'helpers' / 'kills.py',
                          count)
    assert result.returncode == 0, result.stdout
    seen = ast.literal_eval(result.stdout.splitlines()[-1])
    assert seen['kills'] >= count and seen['runs'] >= 1


class SignalAll(StopAt):
    """As a launcher does: the workers, too, and twice."""

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.iter == self.iteration:
            for child in multiprocessing.active_children():
                os.kill(child.pid, self.number)
            time.sleep(3 * Worker.seconds)  # that they wait for an end
            os.kill(os.getpid(), self.number)
            os.kill(os.getpid(), self.number)


def test_a_signal_to_all_processes_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Worker, 'seconds', 1)
    case = dict(workers=2)
    build(config(tmp_path / 'whole', **case)).train()
    with pytest.raises(SystemExit):
        build(
            config(tmp_path / 'run', **case),
            [SignalAll(7, signal.SIGTERM)]).train()
    cfg = config(tmp_path / 'run', **case)
    cfg.update(resume=True, load_from=newest_checkpoint(tmp_path / 'run'))
    assert cfg['load_from'].endswith('stopped.pth')
    build(cfg).train()
    same(final(tmp_path / 'whole'), final(tmp_path / 'run'))
    assert lines(tmp_path / 'whole') == lines(tmp_path / 'run')


def test_epochs_of_one_iteration_stop_too(tmp_path):
    for name, hooks in (('whole', []), ('run', [StopAt(1, signal.SIGTERM)])):
        cfg = config(tmp_path / name)
        cfg['train_dataloader']['batch_size'] = 22
        if hooks:
            with pytest.raises(SystemExit):
                build(cfg, hooks).train()
            cfg = config(tmp_path / name)
            cfg['train_dataloader']['batch_size'] = 22
            cfg.update(
                resume=True, load_from=newest_checkpoint(cfg['work_dir']))
            assert cfg['load_from'].endswith('stopped.pth')
        build(cfg).train()
    same(final(tmp_path / 'whole'), final(tmp_path / 'run'))
    assert lines(tmp_path / 'whole') == lines(tmp_path / 'run')


def test_a_pipeline_that_a_hook_changes(tmp_path):
    """As MMPretrain's SwitchRecipeHook does."""
    seen = []

    class Spy:

        def __call__(self, results):
            seen.append(results['sample_idx'])
            return results

    class Change(Hook):

        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                data = runner.train_loop.dataloader.dataset
                data.pipeline = Compose([Spy(), *data.pipeline.transforms])

    build(config(tmp_path), [Change()]).train()
    assert len(seen) == 2 * 22


@pytest.mark.parametrize('workers',
                         [0, pytest.param(2, marks=pytest.mark.long)])
def test_wrapped_data_in_memory(tmp_path, workers):
    """A wrapper hands on positions that know nothing of draws."""
    states = []
    for name in ('whole', 'run'):
        cfgs = []
        for _ in range(2):
            cfg = config(tmp_path / name, in_memory=True, workers=workers)
            loader = cfg['train_dataloader']
            loader['persistent_workers'] = workers > 0
            loader['dataset'] = dict(
                type='RepeatDataset', times=1, dataset=loader['dataset'])
            loader['collate_fn'] = dict(type='default_collate')
            cfg['custom_hooks'].pop()
            cfgs.append(cfg)
        if name == 'run':
            with pytest.raises(ZeroDivisionError):
                build(cfgs[0], [StopAt(7)]).train()
            cfgs[1].update(
                resume=True, load_from=newest_checkpoint(tmp_path / name))
        build(cfgs[1]).train()
        states.append(final(tmp_path / name)['state_dict'])
    same(*states)


def test_only_what_a_run_goes_on_from(tmp_path):
    for name in ('non_finite_iter_3.pth', 'best_x_epoch_2.pth', 'weights.pth',
                 'epoch_2-0badc0de.pth'):
        torch.save(dict(a=1), tmp_path / name)
    assert newest_checkpoint(tmp_path) is None
    torch.save(dict(a=1), tmp_path / 'iter_10.pth')
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'iter_10.pth')


def test_a_loader_of_another_kind_is_told_and_trains(tmp_path):

    class Batches:
        """As a loader that is not torch's own."""

        def __init__(self, loader):
            self.batches = list(loader)
            # what MMEngine itself asks for
            self.dataset, self.sampler = loader.dataset, loader.sampler

        def __len__(self):
            return len(self.batches)

        def __iter__(self):
            return iter(self.batches)

    runner = build(config(tmp_path))
    train_loop = runner.build_train_loop(runner._train_loop)
    train_loop.dataloader = Batches(train_loop.dataloader)
    runner._train_loop = train_loop
    runner.train()
    assert runner.iter == 18
    logs = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'train_dataloader is a Batches whose batches cannot be' in logs
