# Copyright (c) sdd_mm contributors. All rights reserved.
"""The log says what MMEngine's own says, and the history does not grow."""
import gc
import json
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor, Runner
from reads import Recorder
from short_run import loader, runner, validated

from sdd_mm.runtime.hooks.deferred_scalars_hook import (epoch_windows,
                                                        history_length)
from sdd_mm.runtime.message_hub import DeferredMessageHub, History, flush_all


def log_of(run):
    """All logged numbers but what the clock and a GPU's memory say."""
    path, = Path(run.work_dir).glob('*/vis_data/scalars.json')
    return [{
        key: value
        for key, value in json.loads(line).items()
        if not key.endswith(('time', 'memory'))
    } for line in path.read_text().splitlines()]


def histories(run):
    return {
        key: history
        for key, history in run.message_hub.log_scalars.items()
        if not key.endswith('time')
    }


GLOBAL = dict(custom_cfg=[
    dict(data_src='loss', method_name='mean', window_size='global'),
    dict(
        data_src='loss',
        log_name='epoch_loss',
        method_name='max',
        window_size='epoch'),
    dict(
        data_src='grad_norm',
        log_name='least',
        method_name='min',
        window_size=7),
    dict(data_src='lr', log_name='lr_now', method_name='current'),
])


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(log_processor=GLOBAL),
    dict(log_processor=dict(window_size=3, log_with_hierarchy=True)),
    dict(wrapper=dict(accumulative_counts=4, clip_grad=dict(max_norm=1.))),
    dict(wrapper=dict(clip_grad=dict(type='value', clip_value=1e-3))),
    dict(
        train_cfg=dict(by_epoch=False, max_iters=6, val_interval=3),
        log_processor=dict(window_size=2, by_epoch=False)),
])
def test_log_is_mmengines(tmp_path, kwargs):
    runs = []
    for ours in (True, False):
        run = runner(
            tmp_path / str(ours), ours=ours, **validated(**dict(kwargs)))
        run.train()
        runs.append(run)
    logs = [log_of(run) for run in runs]
    assert len(logs[0]) >= 5 and 'loss' in str(logs[0][0])
    assert logs[0] == logs[1]
    ours, theirs = (histories(run) for run in runs)
    assert list(ours) == list(theirs)
    for key in ours:
        for mine, other in zip(ours[key].data, theirs[key].data):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other[-len(mine):])
    for mine, other in zip(*(run.model.parameters() for run in runs)):
        assert torch.equal(mine, other)


class Asks(Hook):
    """Somebody else who wants to know at every step."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        history = runner.message_hub.get_scalar('train/loss')
        self.seen.append((history.current(), outputs['loss'].item()))


def test_whoever_asks_gets_the_last_value(tmp_path):
    run = runner(tmp_path)
    asks = Asks()
    run.register_hook(asks)
    run.train()
    assert len(asks.seen) == 12
    assert all(found == expected for found, expected in asks.seen)


def test_pending_is_bounded_by_the_interval(tmp_path):
    held = []

    class Counts(Hook):
        priority = 'VERY_LOW'

        def after_train_iter(self, runner, *args, **kwargs):
            held.append(runner.message_hub.get_scalar('train/loss').unread)

    run = runner(tmp_path, log_processor=GLOBAL)
    run.register_hook(Counts())
    run.train()
    assert held == [1, 0] * 6


def test_a_hub_of_mmengine_reads_the_norm_at_once(tmp_path):
    run = runner(tmp_path, default_hooks=dict())
    run.train()
    assert type(run.message_hub) is MessageHub
    history = run.message_hub.get_scalar('train/grad_norm')
    assert type(history) is HistoryBuffer and len(history.data[0]) == 12


def size(path):
    hub = torch.load(path)['message_hub']
    # the name of the last checkpoint grows by a character
    assert 'epoch_5' in hub['runtime_info'].pop('last_ckpt')
    return len(pickle.dumps(hub['log_scalars'])), {
        key: len(pickle.dumps(value, 5))
        for key, value in hub['runtime_info'].items()
    }


def test_checkpoints_do_not_grow(tmp_path):
    hooks = dict(
        logger=dict(type='LoggerHook', interval=3),
        scalars=dict(type='DeferredScalarsHook'),
        checkpoint=dict(type='CheckpointHook', interval=5))
    train = loader()
    train['batch_size'] = 12
    run = runner(
        tmp_path,
        epochs=50,
        **validated(
            default_hooks=hooks,
            train_dataloader=train,
            train_cfg=dict(by_epoch=True, max_epochs=50, val_interval=2)))
    run.train()
    assert size(tmp_path / 'epoch_5.pth') == size(tmp_path / 'epoch_50.pth')
    lengths = {
        key: len(history.data[0])
        for key, history in run.message_hub.log_scalars.items()
    }
    assert lengths == {
        'train/lr': 1, 'train/data_time': 10, 'train/grad_norm': 10,
        'train/loss': 10, 'train/accuracy_top-1': 1, 'train/time': 10,
        'val/data_time': 10, 'val/time': 10, 'val/accuracy/top1': 1
    }  # yapf: disable


def test_checkpoint_is_the_student(tmp_path):
    """Of a network of CIFAR's size, with what a run of its config adds."""
    config = Path(__file__).parents[2] / 'configs' / 'sdd'
    config = Config.fromfile(config / 'sd-dkd_res32x4_res8x4_cifar100.py')
    config.merge_from_dict(
        dict(
            work_dir=str(tmp_path),
            train_cfg=dict(max_epochs=1, val_interval=2),
            train_dataloader=dict(loader(), batch_size=2),
            val_dataloader=dict(loader(), batch_size=2),
            default_hooks=dict(
                logger=dict(interval=5),
                checkpoint=dict(save_optimizer=False)),
            model=dict(teacher_ckpt=None, allow_untrained_teacher=True)))
    # the teacher is in no checkpoint: a small one will do
    config.model.teacher = dict(
        config.model.architecture, data_preprocessor=config.data_preprocessor)
    for name in ('train_dataloader', 'val_dataloader'):
        config[name].dataset = dict(loader()['dataset'], num_scenes=4)
    run = Runner.from_cfg(config)
    run.train()
    alone = tmp_path / 'alone.pth'
    torch.save(run.model.student.state_dict(), alone)
    found = (tmp_path / 'epoch_1.pth').stat().st_size
    assert found <= 1.02 * alone.stat().st_size


@pytest.mark.parametrize('first', [True, False])
def test_resume(tmp_path, first):
    """From MMEngine's long histories to ours, and back."""
    whole = runner(tmp_path / 'whole', ours=not first, epochs=4)
    whole.train()
    runner(tmp_path / 'part', ours=first, epochs=2).train()
    path = tmp_path / 'part' / 'epoch_2.pth'
    saved = torch.load(path)['message_hub']['log_scalars']
    assert all(type(history) is HistoryBuffer for history in saved.values())
    assert len(saved['train/loss'].data[0]) == (10 if first else 12)
    part = runner(
        tmp_path / 'resumed',
        ours=not first,
        epochs=4,
        resume=True,
        load_from=str(path))
    part.train()
    assert log_of(part) == log_of(whole)[-len(log_of(part)):]
    for mine, other in zip(part.model.parameters(), whole.model.parameters()):
        assert torch.equal(mine, other)


# --- the parts ---------------------------------------------------------------


def hub(length=None):
    made = MessageHub('a hub')
    made.update_scalar('train/old', 1.5)
    DeferredMessageHub.take_over(made, lambda key: length)
    return made


def test_one_transfer_for_all_histories():
    made = hub()
    for step in range(5):
        for key in 'ab':
            made.update_scalar(key, torch.tensor(float(step)))
    with Recorder() as recorder:
        assert made.get_scalar('a').mean(2) == 3.5
        assert made.get_scalar('b').current() == 4
    assert recorder.names.count('stack') == 1 and not recorder.reads
    assert made.get_scalar('train/old').current() == 1.5


def test_value_is_of_its_time():
    made, tensor = hub(), torch.ones(1, requires_grad=True)
    made.update_scalar('a', tensor)
    with torch.no_grad():
        tensor.zero_()
    assert made.get_scalar('a').current() == 1
    assert not made.get_scalar('a')._values[0].__class__ is torch.Tensor


def test_numbers_keep_their_kind_and_order():
    made = hub(3)
    for value in (torch.tensor(1), 2, torch.tensor([3.5]).double(),
                  torch.tensor(0.1, dtype=torch.bfloat16), 5):
        made.update_scalar('a', value)
    values, counts = made.get_scalar('a').data
    assert values.tolist() == [3.5, torch.tensor(0.1).bfloat16().item(), 5]
    assert counts.tolist() == [1, 1, 1]
    with pytest.raises(AssertionError, match='not a scalar'):
        made.update_scalar('a', torch.ones(2))
    with pytest.raises(TypeError, match='log_val'):
        made.get_scalar('a').update('1')
    with pytest.raises(ValueError, match='empty'):
        History(3, None).current()


def test_a_history_that_left_the_hub_is_read():
    made = hub()
    made.update_scalar('a', torch.tensor(2.))
    assert made.log_scalars.pop('a').data[0].tolist() == [2.]


def test_settling_twice_is_settling_once():
    history = History(2, None)
    for value in (1., 2., 3.):
        history.update(torch.tensor(value))
    flush_all([history])
    flush_all([history])
    assert history.data[0].tolist() == [2., 3.]


def test_length_of_a_history(tmp_path):
    run = runner(tmp_path, **validated())
    run._train_loop = run.build_train_loop(run._train_loop)
    run._val_loop = run.build_val_loop(run._val_loop)
    windows = epoch_windows(run)
    # six batches, and one more that is taken at the end of a validation
    assert windows == dict(train=6, val=7)
    for custom, key, expected in [
        (None, 'train/loss', 10),
        (None, 'train/lr', 1),
        (None, 'val/time', 10),
        (dict(method_name='mean', window_size=30), 'train/loss', 30),
        (dict(method_name='mean', window_size=30), 'train/distill.loss', 10),
        (dict(method_name='mean', window_size='epoch'), 'val/loss', 10),
        (dict(method_name='mean', window_size='global'), 'train/loss', None),
        (dict(method_name='mean'), 'train/loss', None),
        (dict(method_name='current', log_name='now'), 'train/loss', 10),
        (dict(data_src='lr', method_name='max',
              window_size='epoch'), 'train/lr', 6),
        (dict(data_src='time', method_name='max',
              window_size=3), 'val/time', 10),
    ]:
        custom_cfg = [dict(dict(data_src='loss'), **custom)] if custom else []
        processor = LogProcessor(custom_cfg=custom_cfg)
        assert history_length(processor, windows,
                              key) == expected, (custom, key)
    processor = LogProcessor(window_size=2)
    assert history_length(processor, windows, 'val/data_time') == 7
    assert history_length(processor, windows, 'test/time') is None
    assert history_length(processor, {}, 'val/time') is None
    processor = type('Another', (LogProcessor, ), {})()
    assert history_length(processor, windows, 'train/loss') is None


def test_hub_does_not_keep_the_runner(tmp_path):
    run = runner(tmp_path)
    run.train()
    hub, model = run.message_hub, weakref.ref(run.model)
    del run
    gc.collect()
    assert hub.get_scalar('train/loss').current() > 0
    assert model() is None
