# Copyright (c) sdd_mm contributors. All rights reserved.
"""Runs that are trained once, even if they are killed meanwhile."""
import copy
import functools
import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Dict, Optional

import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
from mmengine.config import Config

from sdd_mm.engine.config_keys import RUNNER_KEYS, check_options
from sdd_mm.runtime.work_dir import lock_work_dir

from .environment import environment
from .launch import ROOT, RunError, accuracies, train


class Run:
    """A config that is trained to its end once.

    The name of its directory has a hash of what is trained: the config with
    all options, the content of the teacher's checkpoint and the number of
    processes. A change of any of them makes another run, and equal runs of two
    tables are one.

    An epoch is done when its checkpoint and its accuracy are on disk, in that
    order. A run is done with its last epoch, and resumes after the last one
    that is done. One with a ``recorded`` result, that of an equal run on
    another machine, is done, too.

    Args:
        config (Path): The config file.
        work_dir (Path): The parent of the run's directory.
        options (dict): Settings to override, as ``--cfg-options`` does.
        seed (int): The seed. Defaults to 0.
        gpus (int): Number of processes, one per GPU. Defaults to 1.

    Raises:
        PreflightError: If nothing reads an option.
        RunError: If a finished run could not be recognized, or if the images
            per step are not those that the learning rate is meant for.

    Examples:
        >>> run = Run(Path('configs/demo/sd-kd.py'), Path('work_dirs/x'),
        ...           {'model.teacher_ckpt': 'teacher.pth'})
        >>> run.train()
        >>> run.accuracy()[run.max_epochs]
    """

    def __init__(self,
                 config: Path,
                 work_dir: Path,
                 options: dict,
                 seed: int = 0,
                 gpus: int = 1) -> None:
        cfg = copy.deepcopy(read(config))
        check_options(cfg, options)
        alone = images_per_step(cfg, 1)
        # a copy: merging takes `_delete_` out of the options
        cfg.merge_from_dict(copy.deepcopy(options))
        check_batch(cfg, config, gpus, alone)
        if not cfg.train_cfg.get('by_epoch',
                                 True) or not cfg.get('val_dataloader'):
            raise RunError(f'{config}: only runs that count epochs '
                           '(train_cfg.by_epoch) and validate '
                           '(val_dataloader) can be recognized as done')
        last, begin = cfg.train_cfg.max_epochs, cfg.train_cfg.get(
            'val_begin', 1)
        if not 1 <= begin <= last:
            raise RunError(
                f'{config}: the last of train_cfg.max_epochs={last} epochs is '
                f'not validated (train_cfg.val_begin={begin})')
        # resuming needs the one before the one that is being written
        cfg.default_hooks.checkpoint.update(
            interval=cfg.train_cfg.get('val_interval', 1), max_keep_ckpts=2)
        cfg.merge_from_dict({'randomness.seed': seed})
        self.cfg, self.seed, self.gpus = cfg, seed, gpus
        self.max_epochs = last
        self.recorded: Optional[dict] = None
        self.directory = work_dir / (f'{Path(config).stem}-seed{seed}-'
                                     f'{identity(cfg, gpus)}')

    def accuracy(self) -> Dict[int, float]:
        """Top-1 accuracy (%) of the epochs so far."""
        if self.recorded is not None:
            found = self.recorded['accuracy']
            return {int(epoch): value for epoch, value in found.items()}
        return accuracies(self.directory)

    def checkpoint(self, epoch: int) -> Path:
        """The checkpoint after an epoch."""
        return self.directory / f'epoch_{epoch}.pth'

    def epochs_done(self) -> int:
        """Number of epochs that need not be trained again."""
        return max(
            (epoch
             for epoch in self.accuracy() if self.checkpoint(epoch).is_file()),
            default=0)

    def done(self) -> bool:
        """Whether the last epoch is done."""
        return self.recorded is not None or self.epochs_done(
        ) == self.max_epochs

    def diverged(self) -> bool:
        """Whether the run has ended with a loss that is not finite."""
        return any(self.directory.glob('non_finite_iter_*.pth'))

    def seconds(self) -> float:
        """Wall time of all attempts so far."""
        if self.recorded is not None:
            return self.recorded['seconds']
        return sum(
            scalars.stat().st_mtime - datetime.strptime(
                scalars.parents[1].name, '%Y%m%d_%H%M%S').timestamp()
            for scalars in self.directory.glob('*/vis_data/scalars.json'))

    def facts(self) -> dict:
        """Hardware, versions and commit: for each, its values so far."""
        if self.recorded is not None:
            return self.recorded['facts']
        path = self.directory / 'facts.json'
        return json.loads(path.read_text()) if path.is_file() else {}

    def train(self, title: str = '', end: str = '\r') -> None:
        """Train what is left of the run, unless it has diverged.

        Raises:
            WorkDirError: If another process is training the run.
            RunError: If training fails.
        """
        config = self.directory / 'config.py'
        with lock_work_dir(str(self.directory)):  # nobody else trains it
            if self.done() or self.diverged():
                return
            self.cfg.dump(str(config))
            self._write_facts()
        done = self.epochs_done()
        resume = ('--resume', str(self.checkpoint(done))) if done else ()
        try:
            train(
                config,
                self.directory,
                *resume,
                title=title or self.directory.name,
                end=end,
                gpus=self.gpus)
        except RunError:
            if not self.diverged():
                raise
            return
        if not self.done():
            raise RunError(
                f'{self.directory}: training ended without the checkpoint and '
                f'the accuracy of epoch {self.max_epochs}')

    def _write_facts(self) -> None:
        facts, found = self.facts(), environment()
        if self.gpus > 1:
            found['gpu'] = f'{self.gpus} x {found["gpu"] or "no GPU"}'
        for name, value in found.items():
            if name != 'load' and value not in facts.setdefault(name, []):
                facts[name].append(value)
        replace(self.directory / 'facts.json', json.dumps(facts, indent=1))


@functools.lru_cache(maxsize=None)
def read(config: Path) -> Config:
    """A config file, which many runs share: copy it before changing it."""
    return Config.fromfile(config)


def images_per_step(cfg: Config, gpus: int) -> int:
    """Images per optimizer step."""
    return (gpus * cfg.train_dataloader.batch_size *
            cfg.optim_wrapper.get('accumulative_counts', 1))


def check_batch(cfg: Config, config: Path, gpus: int, alone: int) -> None:
    """Refuse a learning rate that is meant for other images per step.

    A config without ``auto_scale_lr.base_batch_size`` is meant for those that
    one process of it, as it is, has ``alone``.
    """
    scale = cfg.get('auto_scale_lr') or {}
    base, found = scale.get('base_batch_size',
                            alone), images_per_step(cfg, gpus)
    if found == base or scale.get('enable'):
        return
    many, rest = divmod(base * gpus, found)
    ways = [
        f'use --gpus {many}'
        if many and not rest else 'set train_dataloader.batch_size'
    ]
    if 'base_batch_size' in scale:
        ways.append('scale the learning rate by --cfg-options '
                    'auto_scale_lr.enable=True')
    raise RunError(
        f'{os.path.relpath(config, ROOT)}: its learning rate is meant for '
        f'{base} images per step, but --gpus {gpus} makes {found}: '
        f'{", or ".join(ways)}')


def identity(cfg: Config, gpus: int = 1) -> str:
    """A hash of everything that a run depends on."""
    content = {
        key: value
        for key, value in cfg.to_dict().items()
        if key in RUNNER_KEYS and key != 'work_dir'
    }
    if gpus > 1:
        content['gpus'] = gpus
    teacher = content['model'].get('teacher_ckpt')
    if teacher is not None and '://' not in teacher:
        check_teacher(teacher)
        weights = Path(teacher).expanduser().read_bytes()
        content['model']['teacher_ckpt'] = hashlib.sha256(weights).hexdigest()
    return digest(content)


def digest(content: dict) -> str:
    """A short hash of plain values."""
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_teacher(checkpoint: str) -> None:
    """Refuse a teacher's checkpoint that does not exist."""
    if '://' in checkpoint or Path(checkpoint).expanduser().is_file():
        return
    # where the shipped configs look for it
    config = f'configs/vanilla/{Path(checkpoint).parent.name}.py'
    training = f'train it by `python tools/train.py {config}`, or ' if (
        ROOT / config).is_file() else ''
    raise RunError(f'teacher checkpoint {checkpoint} does not exist: '
                   f'{training}name another by --teacher-ckpt')


def replace(path: Path, text: str) -> None:
    """Write a file so that it is never half written."""
    part = path.with_name(f'{path.name}.part')
    part.write_text(text)
    os.replace(part, path)
