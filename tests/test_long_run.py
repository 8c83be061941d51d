# Copyright (c) sdd_mm contributors. All rights reserved.
"""Memory and step time of a long distillation stay what they are."""
import gc
import itertools
import statistics
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy import algorithm

COUNT = itertools.count()
MIB = 2**20


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096


class Watch(Hook):
    """Takes memory and time at ten points of the run."""

    def __init__(self, iterations):
        self.every = iterations // 10
        self.memory, self.seconds, self.kept = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.start = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)
        if (runner.iter + 1) % self.every == 0:
            gc.collect()
            self.memory.append(resident())
            self.kept.append(
                sum(
                    len(history.data[0])
                    for history in runner.message_hub.log_scalars.values()))


def run(work_dir, iterations) -> Watch:
    watch = Watch(iterations)
    cfg = dict(
        model=algorithm(student_loss_weight=1.0),
        work_dir=str(work_dir),
        experiment_name=f'long_{next(COUNT)}',
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=dict(
                type='InMemoryDataset',
                dataset=dict(
                    type='DigitScenes',
                    split='train',
                    num_scenes=200,
                    pipeline=[
                        dict(type='RandomCrop', crop_size=32, padding=1),
                        dict(type='PackInputs')
                    ])),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='batch_or_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=iterations // 100),
        optim_wrapper=dict(
            type='DeferredOptimWrapper',
            optimizer=dict(type='SGD', lr=0.001, momentum=0.9),
            clip_grad=dict(max_norm=5.)),
        default_hooks=dict(
            scalars=dict(type='DeferredScalarsHook'),
            logger=dict(type='LoggerHook', interval=50),
            checkpoint=dict(
                type='CheckpointHook', interval=50, max_keep_ckpts=2),
            labels=dict(type='LabelCheckHook'),
            finite_loss=dict(type='FiniteLossHook'),
            exact_resume=dict(type='ExactResumeHook')),
        custom_hooks=[
            dict(type='FrozenTeacherHook'),
            dict(type='SDDReportHook'),
            dict(type='TeacherCacheHook')
        ],
        default_scope='mmpretrain',
        randomness=dict(seed=1))
    runner = Runner.from_cfg(Config(cfg, format_python_code=False))
    runner.register_hook(watch)
    runner.train()
    return watch


@pytest.mark.long
@pytest.mark.parametrize('iterations', [500, 20000])
def test_memory_and_time_do_not_grow(tmp_path, iterations, capsys):
    watch = run(tmp_path, iterations)
    assert len(watch.seconds) == iterations
    # after the first tenths, when caches and allocators are warm
    grown = watch.memory[-1] - watch.memory[2]
    quarter = iterations // 4
    slower = statistics.median(watch.seconds[-quarter:]) / statistics.median(
        watch.seconds[quarter:2 * quarter])
    with capsys.disabled():
        print(f'\n{iterations} iterations: memory {grown / MIB:+.1f} MiB, '
              f'step time x {slower:.3f}, values kept {watch.kept}')
    assert grown < 8 * MIB
    # on a machine that others use
    assert slower < 1.5
    # the longest window of the log is an epoch
    assert max(watch.kept[1:]) == min(watch.kept[1:])
