# Copyright (c) sdd_mm contributors. All rights reserved.
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Optional

from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch.utils.data import DataLoader

from ...datasets.draws import (MODEL, VALIDATION, NumberedBatches, numbered,
                               seed_everything)
from .utils import bare_model, log_interval

GRADIENTS = 'pending_gradients'
STOPPED = 'stopped.pth'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """A run that was stopped and resumed is the run that was not.

    - What is random about a sample depends on the seed, the epoch and the
      number of its draw; what is random in the model on the seed, the
      iteration and the rank. MMEngine seeds its workers alike at every start,
      and the model once.
    - A validation that the stop left out is made up for.
    - SIGTERM (of a scheduler) and the first SIGINT (Ctrl-C) end the run after
      the iteration, with a checkpoint ``stopped.pth`` from which ``--resume``
      goes on in the middle of the epoch. Distributed processes agree at the
      next log line.
    - Gradients that are being accumulated are in the checkpoint.

    On a CPU the resumed run is the same to the bit; on a GPU with
    ``randomness.deterministic=True``. The number of processes must be the
    same.

    Examples:
        >>> # in a config
        >>> default_hooks = dict(exact_resume=dict(type='ExactResumeHook'))
    """

    # after all others: what they do in an iteration belongs to it
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signal: Optional[signal.Signals] = None
        self._before = {}
        self._seed = self._rank = 0
        self._restore = _nothing

    def before_run(self, runner) -> None:
        """Hear of signals while the run trains, however it ends."""
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return  # it only validates or tests
        run = loop.run

        def listening():
            self._listen()
            try:
                return run()
            finally:
                self._unlisten()
                self._restore()
                del loop.run

        loop.run = listening

    def before_train(self, runner) -> None:
        """Number the draws, and go on where the checkpoint was saved."""
        self._rank, world_size = get_dist_info()
        self._seed = all_gather_object(runner.seed)[0]
        if is_main_process():
            for left in Path(runner.work_dir).glob('.*.part'):
                left.unlink()  # of a write that was cut off
        loop = runner.train_loop
        if loop.dataloader.batch_sampler is None:
            runner.logger.warning(
                'train_dataloader has no batch sampler: a resumed run will '
                'see other batches than one that was not stopped')
            return
        if hasattr(loop.dataloader.sampler, 'seed'):
            # it was built before the checkpoint's seed was known
            loop.dataloader.sampler.seed = self._seed
        loop.dataloader = numbered(loop.dataloader, self._seed, self._rank,
                                   world_size)
        if not isinstance(loop, EpochBasedTrainLoop):
            loop.dataloader_iterator = Stream(loop.dataloader, loop.iter)
        elif loop.iter > 0:
            self._go_on(runner, loop)

    def _go_on(self, runner, loop) -> None:
        """Skip the batches that were trained, make up for a validation."""
        length = len(loop.dataloader)
        done = loop.iter - loop.epoch * length
        if not 0 <= done < length:
            runner.logger.warning(
                f'iteration {loop.iter} is not in epoch {loop.epoch + 1} of '
                f'{length} iterations: the run began with other data, another '
                'batch size or another number of processes, and cannot go on '
                'exactly. It starts this epoch from its beginning.')
        elif done:
            loop.dataloader.batch_sampler.skip = done
            run_iter = loop.run_iter
            loop.run_iter = lambda idx, batch: run_iter(idx + done, batch)
            self._restore = lambda: vars(loop).pop('run_iter', None)
        elif (runner.val_loop is not None and loop.epoch >= loop.val_begin
              and (loop.epoch % loop.val_interval == 0
                   or loop.epoch == loop.max_epochs)):
            runner.val_loop.run()

    def before_train_epoch(self, runner) -> None:
        """Let the draws know their epoch."""
        batches = runner.train_loop.dataloader.batch_sampler
        if isinstance(batches, NumberedBatches):
            batches.epoch = runner.epoch

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Let the model's randomness depend on the iteration."""
        seed_everything(MODEL, self._seed, runner.iter, self._rank)

    def before_val_epoch(self, runner) -> None:
        """As for an iteration, should a validation be random."""
        seed_everything(VALIDATION, self._seed, runner.iter, self._rank)

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None) -> None:
        """End the run if it was asked to."""
        # the last one of an epoch belongs with what comes after it
        if self._ends_epoch(runner) or not self._asked(runner):
            return
        self._save(runner)
        runner.logger.warning(
            f'{self._signal.name}: stopped after iteration {runner.iter + 1}. '
            f'--resume goes on from {STOPPED}')
        sys.exit(128 + self._signal)

    def after_train_epoch(self, runner) -> None:
        """Count batches from the epoch's beginning again."""
        self._restore()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep gradients that are being accumulated."""
        if runner.optim_wrapper.should_update():
            return
        checkpoint[GRADIENTS] = {
            name: weight.grad.cpu()
            for name, weight in bare_model(runner).named_parameters()
            if weight.grad is not None
        }

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Go on accumulating."""
        if not runner._resume:
            return
        gradients = checkpoint.get(GRADIENTS, {})
        for name, weight in bare_model(runner).named_parameters():
            if name in gradients:
                weight.grad = gradients[name].to(weight.device)

    def _ends_epoch(self, runner) -> bool:
        loop = runner.train_loop
        return isinstance(loop, EpochBasedTrainLoop) and self.end_of_epoch(
            loop.dataloader, runner.iter % len(loop.dataloader))

    def _asked(self, runner) -> bool:
        """Whether a signal came, to any process."""
        _, world_size = get_dist_info()
        if world_size == 1:
            return self._signal is not None
        if not self.every_n_train_iters(runner, log_interval(runner)):
            return False
        found = max(all_gather_object(self._signal or 0))
        self._signal = signal.Signals(found) if found else None
        return bool(found)

    def _save(self, runner) -> None:
        runner.save_checkpoint(
            runner.work_dir,
            STOPPED,
            meta=dict(epoch=runner.epoch, iter=runner.iter + 1))
        if is_main_process():
            path = Path(runner.work_dir, 'last_checkpoint')
            path.write_text(str(Path(runner.work_dir, STOPPED)))

    def _listen(self) -> None:
        """Hear of SIGTERM and SIGINT, where Python lets us."""
        self._signal = None
        if threading.current_thread() is not threading.main_thread():
            return
        pid = os.getpid()

        def hear(number, frame) -> None:
            if os.getpid() != pid:
                return  # a dataloader's worker, which its process ends
            if self._signal is not None:  # the second one
                self._unlisten()
                signal.raise_signal(number)
            self._signal = signal.Signals(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, hear)

    def _unlisten(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class Stream:
    """Batches without end, the first of which were asked for before.

    Args:
        loader (DataLoader): A numbered one.
        done (int): Batches that a loop will ask for and not use.
    """

    def __init__(self, loader: DataLoader, done: int) -> None:
        self.loader = loader
        self.done = done
        self.batches = loader.batch_sampler
        self.epoch, self.batches.skip = 0, done
        sampler = self.batches.sampler
        if isinstance(sampler, InfiniteSampler):
            # workers may have asked it for some already
            sampler.indices = sampler._indices_of_rank()
        else:
            self.epoch, self.batches.skip = divmod(done, len(loader))
        self.iterator = None

    def __iter__(self) -> 'Stream':
        return self

    def __next__(self):
        if self.done:
            self.done -= 1
            return None
        if self.iterator is None:
            self._start()
        try:
            return next(self.iterator)
        except StopIteration:
            self.epoch += 1
            self._start()
            return next(self.iterator)

    def _start(self) -> None:
        self.batches.epoch = self.epoch
        if hasattr(self.batches.sampler, 'set_epoch'):
            self.batches.sampler.set_epoch(self.epoch)
        self.iterator = iter(self.loader)


def _nothing() -> None:
    """Do nothing."""
