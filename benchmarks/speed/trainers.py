# Copyright (c) sdd_mm contributors. All rights reserved.
"""Real runs that advance step by step, so that several take turns."""
import copy
import io
import logging
import os
import tempfile
from contextlib import contextmanager, redirect_stdout
from typing import Dict, Iterator

import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
import torch
from mmengine.config import Config
from mmengine.registry import LOOPS, DefaultScope
from mmengine.runner import EpochBasedTrainLoop, Runner

from sdd_mm.engine.smoke import to_smoke
from sdd_mm.images import innermost

from ..environment import ROOT

CONFIGS = ROOT / 'configs'
FAST = CONFIGS / '_base_' / 'fast.py'
PAIR = 'res32x4_res8x4_cifar100'
STUDENT = 'res8x4_cifar100'
# batches of 64 in an epoch of CIFAR-100
EPOCH = 782


@LOOPS.register_module(force=True)
class SteppedTrainLoop(EpochBasedTrainLoop):
    """An ``EpochBasedTrainLoop`` that waits between its iterations.

    ``run()`` does what comes before the first epoch and returns. Every
    ``next(loop.iterations)`` then runs one iteration of the parent class: it
    takes a batch from the dataloader, calls the hooks and the model's
    ``train_step``, and ends and begins epochs.
    """

    def run(self):
        self.runner.call_hook('before_train')
        self.iterations = self._iterate()
        return self.runner.model

    def _iterate(self):
        while True:
            self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            for idx, batch in enumerate(self.dataloader):
                self.run_iter(idx, batch)
                yield
            self.runner.call_hook('after_train_epoch')
            self._epoch += 1


class Trainer:
    """A training run that makes one step per call.

    Config, hooks, optimizer wrapper, data preprocessor and train loop are the
    run's own. Validation and checkpoints are left out, which do not belong to
    a step, and so is a teacher's checkpoint that is absent: its weights do not
    change the time.

    Args:
        cfg (Config): A training config, see :func:`configure`.

    Examples:
        >>> trainer = Trainer(configure('sdd/kd_res32x4_res8x4_cifar100.py',
        ...                             options))
        >>> trainer()
    """

    _number = 0

    def __init__(self, cfg: Config) -> None:
        Trainer._number += 1
        self._lines = io.StringIO()
        self._folder = tempfile.TemporaryDirectory(prefix='sdd_mm_speed_')
        # formatting the text of a config takes longer than building a run
        cfg = Config(cfg.to_dict(), format_python_code=False)
        cfg.work_dir = self._folder.name
        # MMEngine keeps logs, scalars and visualizers by this name
        cfg.experiment_name = f'speed_{Trainer._number}'
        cfg.train_cfg.type = 'SteppedTrainLoop'
        cfg.train_cfg.pop('by_epoch', None)
        # log lines cost as much there, and do not hide the results
        with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere):
            self.runner = Runner.from_cfg(cfg)
            for handler in self.runner.logger.handlers:
                if type(handler) is logging.StreamHandler:
                    handler.setStream(self._lines)
        self.runner.train()

    @property
    def model(self) -> torch.nn.Module:
        return self.runner.model

    def __call__(self) -> None:
        """One training iteration."""
        next(self.runner.train_loop.iterations)

    def close(self) -> None:
        """Remove its files."""
        self._folder.cleanup()
        DefaultScope._instance_dict.clear()


@contextmanager
def started(cfgs: Dict[str, Config]) -> Iterator[Dict[str, Trainer]]:
    """Trainers of some configs, each past its first step."""
    trainers = {name: Trainer(cfg) for name, cfg in cfgs.items()}
    try:
        for trainer in trainers.values():
            trainer()
        yield trainers
    finally:
        for trainer in trainers.values():
            trainer.close()


def configure(name: str, options) -> Config:
    """A shipped config, ready for a :class:`Trainer`.

    The training process loads the data itself, so that no other process takes
    its cores unnoticed. A round of steps has one log line.
    """
    cfg = Config.fromfile(CONFIGS / name)
    kept = {
        key: copy.deepcopy(cfg.get(key))
        for key in ('train_cfg', 'param_scheduler', 'visualizer')
    }
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.setdefault('collate_fn', dict(type='default_collate'))
    loader.setdefault('pin_memory', torch.cuda.is_available())
    if options.tiny:
        loader.batch_size = 2
    dataset = copy.deepcopy(loader.dataset)
    cfg.work_dir = '.'
    to_smoke(cfg, 24 if options.tiny else EPOCH)
    cfg.update(kept)
    cfg.default_hooks.logger.interval = options.steps
    if options.data_root is not None:
        innermost(dataset).update(
            data_root=options.data_root, verify='content')
        loader.dataset = dataset
    cfg.randomness = dict(seed=0)
    return cfg


def describe(options) -> str:
    """A note on the runs."""
    images = ('Images are generated'
              if options.data_root is None else 'Images are CIFAR-100')
    return (f'A round is {options.steps} steps with one log line. {images} '
            'and loaded by the training process itself. The teacher is '
            'untrained: its weights do not change the time.')


def with_scales(cfg: Config, scales: tuple) -> Config:
    """The config with another scale set M."""
    cfg = copy.deepcopy(cfg)
    cfg.model.distiller.distill_losses.loss_sdd.scales = scales
    return cfg


def in_memory(cfg: Config) -> Config:
    """The same run with its training data as one tensor in memory."""
    cfg = copy.deepcopy(cfg)
    loader = cfg.train_dataloader
    loader.update(Config.fromfile(FAST).in_memory)
    loader.dataset = dict(type='InMemoryDataset', dataset=loader.dataset)
    return cfg


def fast(cfg: Config) -> Config:
    """The same run with the options of ``configs/fast``, but the cache."""
    cfg = in_memory(cfg)
    cfg.model.update(Config.fromfile(FAST).fast_model)
    return cfg


def stock(cfg: Config) -> Config:
    """The same run on MMRazor's and MMEngine's own parts.

    ``SingleTeacherDistill`` and ``ConfigurableDistiller`` with the same loss
    modules, recorders written by hand, MMEngine's default hooks and
    ``OptimWrapper``, none of this project's hooks.
    """
    cfg = copy.deepcopy(cfg)
    ours = cfg.model
    losses = ours.distiller.distill_losses
    records = dict(feature_head=dict(type='FeatureHead'))
    mapping = dict(
        student=dict(recorder='feature_head', from_student=True),
        teacher=dict(recorder='feature_head', from_student=False),
        target=dict(recorder='target', from_student=True))
    cfg.model = dict(
        _scope_='mmrazor',
        type='SingleTeacherDistill',
        architecture=ours.architecture,
        teacher=ours.teacher,
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=dict(**records, target=dict(type='Target')),
            teacher_recorders=records,
            distill_losses=losses,
            loss_forward_mappings=dict.fromkeys(losses, mapping)))
    cfg.data_preprocessor.update(
        _scope_='mmpretrain', type='ClsDataPreprocessor')
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.default_hooks.pop('scalars')
    cfg.custom_hooks = []
    return cfg
