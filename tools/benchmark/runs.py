# Copyright (c) sdd_mm contributors. All rights reserved.
"""Runs that are trained once, whatever happens meanwhile."""
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Callable, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims.measure import environment  # noqa: E402
from common import check_options, positive  # noqa: E402,F401
from launch import RunError, curve, stop, train  # noqa: E402,F401
from mmengine.config import Config  # noqa: E402

from sdd_mm.engine.config_keys import RUNNER_KEYS  # noqa: E402
from sdd_mm.engine.errors import PreflightError  # noqa: E402

# workers of a killed training notice its end within five seconds
PATIENCE = 15


class Run:
    """A config that is trained to its end once.

    Its directory is named after what is trained: the config with all options
    and the content of the teacher's checkpoint. Whatever changes there makes
    another run, and equal runs of two tables are one.

    An epoch is done when its checkpoint and its accuracy are on disk, in that
    order. A run is done with its last epoch, and goes on after the last one
    that is done.

    Args:
        config (Path): The config file.
        work_dir (Path): Where the run's directory goes.
        options (dict): What to override, as ``--cfg-options`` does.
        seed (int): The seed. Defaults to 0.

    Raises:
        PreflightError: If nothing reads an option.
        RunError: If the run could not be recognised as done.

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
                 seed: int = 0) -> None:
        cfg = Config.fromfile(config)
        check_options(cfg, options)
        cfg.merge_from_dict(options)
        if not cfg.train_cfg.get('by_epoch',
                                 True) or not cfg.get('val_dataloader'):
            raise RunError(f'{config}: only runs that count epochs '
                           '(train_cfg.by_epoch) and validate '
                           '(val_dataloader) can be recognised as done')
        last, begin = cfg.train_cfg.max_epochs, cfg.train_cfg.get(
            'val_begin', 1)
        if not 1 <= begin <= last:
            raise RunError(
                f'{config}: the last of train_cfg.max_epochs={last} epochs is '
                f'not validated (train_cfg.val_begin={begin})')
        # one more than is being written and validated, to go on from
        cfg.default_hooks.checkpoint.update(
            interval=cfg.train_cfg.get('val_interval', 1), max_keep_ckpts=2)
        cfg.merge_from_dict({'randomness.seed': seed})
        self.cfg = cfg
        self.seed = seed
        self.max_epochs = cfg.train_cfg.max_epochs
        self.directory = work_dir / (f'{Path(config).stem}-seed{seed}-'
                                     f'{identity(cfg)}')

    def accuracy(self) -> Dict[int, float]:
        """Top-1 accuracy (%) by epoch, as far as the run has come."""
        return curve(self.directory)

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
        """Whether the run has come to its end."""
        return self.epochs_done() == self.max_epochs

    def diverged(self) -> bool:
        """Whether the run has ended with a loss that is not finite."""
        return any(self.directory.glob('non_finite_iter_*.pth'))

    def seconds(self) -> float:
        """Wall time of all attempts, as far as they have come."""
        return sum(
            scalars.stat().st_mtime - datetime.strptime(
                scalars.parents[1].name, '%Y%m%d_%H%M%S').timestamp()
            for scalars in self.directory.glob('*/vis_data/scalars.json'))

    def facts(self) -> dict:
        """Hardware, versions and commit of every attempt, told once."""
        path = self.directory / 'facts.json'
        return json.loads(path.read_text()) if path.is_file() else {}

    def train(self, title: str = '', every: float = 0) -> None:
        """Train what is left of the run, unless it has diverged.

        Args:
            title (str): What the line of progress begins with. Defaults to
                the directory's name.
            every (float): Seconds between two lines of progress. Defaults to
                0: one line that changes with every epoch.

        Raises:
            RunError: If training fails, or if the run is being trained by
                another process.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock() as lock:
            done = self.epochs_done()
            if done == self.max_epochs or self.diverged():
                return
            config = self.directory / 'config.py'
            self.cfg.dump(str(config))
            self._tell_facts()
            resume = ('--resume', str(self.checkpoint(done))) if done else ()
            try:
                train(
                    config,
                    self.directory,
                    *resume,
                    title=title or self.directory.name,
                    pass_fds=(lock.fileno(), ),
                    every=every)
            except RunError:
                if not self.diverged():
                    raise
                return
            if not self.done():
                raise RunError(
                    f'{self.directory}: training ended without the checkpoint '
                    f'and the accuracy of epoch {self.max_epochs}')

    def _tell_facts(self) -> None:
        """Each fact as the list of what it was in the attempts."""
        facts = self.facts()
        for name, value in environment().items():
            if name != 'load' and value not in facts.setdefault(name, []):
                facts[name].append(value)
        replace(self.directory / 'facts.json', json.dumps(facts, indent=1))

    @contextmanager
    def _lock(self):
        """The training process shares the lock, even if this one is killed."""
        with (self.directory / 'lock').open('w') as lock:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RunError(
                            f'{self.directory} is being trained by another '
                            'process: wait for it, or end it and try again'
                        ) from None
                time.sleep(0.2)
            yield lock


def as_command(main: Callable[[], None]) -> None:
    """Run a tool that may be interrupted, and say what went wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except (PreflightError, RunError) as error:
        sys.exit(f'ERROR: {error}')
    except KeyboardInterrupt:
        print('Interrupted. The same command goes on from here')
        sys.exit(130)


def replace(path: Path, text: str) -> None:
    """Write a file so that it is never half written."""
    part = path.with_name(f'{path.name}.part')
    part.write_text(text)
    os.replace(part, path)


def identity(cfg: Config) -> str:
    """A hash of everything in a config that a run depends on."""
    content = {
        key: value
        for key, value in cfg.to_dict().items()
        if key in RUNNER_KEYS and key != 'work_dir'
    }
    teacher = content['model'].get('teacher_ckpt')
    if teacher is not None and '://' not in teacher:
        check_teacher(teacher, 'Set model.teacher_ckpt')
        weights = Path(teacher).expanduser().read_bytes()
        content['model']['teacher_ckpt'] = hashlib.sha256(weights).hexdigest()
    return digest(content)


def digest(content: dict) -> str:
    """A short hash of plain values."""
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_teacher(checkpoint: str, remedy: str) -> None:
    """Refuse a teacher's checkpoint that is not there."""
    if '://' not in checkpoint and not Path(checkpoint).expanduser().is_file():
        raise RunError(
            f'teacher checkpoint {checkpoint} does not exist. {remedy}')
