# Copyright (c) sdd_mm contributors. All rights reserved.
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Optional

from mmengine.dataset import InfiniteSampler
from mmengine.dist import (all_gather_object, barrier, get_dist_info,
                           is_main_process)
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import (BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop)
from torch.utils.data import DataLoader, IterableDataset

from ...datasets.draws import (MODEL, ORDER, VALIDATION, NumberedBatches,
                               Worker, numbered, seed_everything)
from ..checkpoints import ATOMIC, STOPPED, write_atomically
from .utils import bare_model, log_interval

GRADIENTS, STATES = 'pending_gradients', 'hook_states'
SAMPLER_SEED = 'sampler_seed'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """A run that was stopped and resumed is the run that was not.

    - What is random about a sample depends on the seed, the epoch and the
      number of its draw; what is random in the model on the seed, the
      iteration and the rank. MMEngine seeds its workers alike at every start,
      and the model once.
    - A validation that the stop left out is made up for.
    - Checkpoints are written beside their place and moved there when they are
      on the disk, so a kill leaves the old file or the new one.
    - SIGTERM (of a scheduler) and the first SIGINT (Ctrl-C) end the run after
      the iteration, with a checkpoint ``stopped.pth`` from which ``--resume``
      goes on in the middle of the epoch. Distributed processes agree once in
      a log interval.
    - Gradients that are being accumulated are in the checkpoint, and so is
      what an ``EarlyStoppingHook`` has counted, or any hook that has
      ``state_dict()`` and ``load_state_dict()``.

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
        self._agreed = self._validated = self._validating = False
        self._sampler_seed: Optional[int] = None
        self._before, self._workers = {}, []
        self._seed = self._rank = 0
        self._restore = _nothing

    def before_run(self, runner) -> None:
        """Hear of signals while the run trains, however it ends."""
        write_atomically(runner)
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop) or 'run' in vars(loop):
            return  # it only validates or tests, or was told before
        _count_before_saving(runner._hooks)
        run = loop.run

        def listening():
            self._listen()
            try:
                return run()
            finally:
                self._unlisten()
                for worker in self._workers:
                    worker.let_go()
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
        loader = loop.dataloader
        if type(loader) is not DataLoader or isinstance(
                loader.dataset, IterableDataset) or not loader.batch_sampler:
            runner.logger.warning(
                f'train_dataloader is a {type(loader).__name__} whose batches '
                'cannot be numbered: a resumed run may see others than one '
                'that was not stopped')
        else:
            sampler = _sampler(loader)
            if self._sampler_seed is not None and hasattr(sampler, 'seed'):
                # it was built before the checkpoint was read
                sampler.seed = self._sampler_seed
            loop.dataloader = numbered(loader, self._seed, self._rank,
                                       world_size)
            if isinstance(loop, IterBasedTrainLoop):
                loop.dataloader_iterator = Stream(loop.dataloader, loop.iter)
            self._workers.append(loop.dataloader.worker_init_fn)
        if runner.val_loop is not None and type(
                runner.val_loop.dataloader) is DataLoader:
            loader = runner.val_loop.dataloader
            loader.worker_init_fn = Worker(loader.worker_init_fn)
            self._workers.append(loader.worker_init_fn)
        if any(hook.wait_count >= hook.patience for hook in runner.hooks
               if isinstance(hook, EarlyStoppingHook)):
            loop.stop_training = True
        if loop.iter > 0:
            self._go_on(runner, loop)

    def _go_on(self, runner, loop) -> None:
        """Skip the batches that were trained, make up for a validation."""
        done, now, end = 0, loop.iter, loop.max_iters
        if isinstance(loop, EpochBasedTrainLoop):
            length = len(loop.dataloader)
            now, end = loop.epoch, loop.max_epochs
            done = loop.iter - loop.epoch * length
            if not 0 <= done <= length:
                runner.logger.warning(
                    f'iteration {loop.iter} is not in epoch {loop.epoch + 1} '
                    f'of {length} iterations: the run began with other data, '
                    'another batch size or another number of processes, and '
                    'cannot go on exactly. It starts this epoch from its '
                    'beginning.')
                return
        if done:
            batches = _batches(loop)
            if batches is None:
                return
            batches.skip = done
            run_iter = loop.run_iter
            loop.run_iter = lambda idx, batch: run_iter(idx + done, batch)
            self._restore = lambda: vars(loop).pop('run_iter', None)
            return
        loop._decide_current_val_interval()
        if (runner.val_loop is not None and not self._validated
                and now >= loop.val_begin
                and (now % loop.val_interval == 0 or now == end)):
            runner.val_loop.run()

    def before_train_epoch(self, runner) -> None:
        """Let the draws know their epoch; end the run if it was asked to."""
        batches = _batches(runner.train_loop)
        if batches is not None:
            batches.epoch = runner.epoch
        if runner.iter > 0 and self._asked(runner) and _in_checkpoint(runner):
            self._end(runner, runner.iter, validated=True)
        # for samplers that have no seed of their own
        seed_everything(ORDER, self._seed, runner.epoch)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Let the model's randomness depend on the iteration."""
        self._validating = False
        seed_everything(MODEL, self._seed, runner.iter, self._rank)

    def before_val_epoch(self, runner) -> None:
        """As for an iteration, should a validation be random."""
        self._validating = True
        seed_everything(VALIDATION, self._seed, runner.iter, self._rank)

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None) -> None:
        """End the run if it was asked to."""
        if get_dist_info()[1] > 1 and not (self._agreed or batch_idx %
                                           log_interval(runner) == 0):
            return
        # the last one of an epoch belongs with what comes after it
        if not self._ends_epoch(runner) and self._asked(
                runner) and _in_checkpoint(runner):
            self._end(runner, runner.iter + 1)

    def _end(self, runner, done: int, validated: bool = False) -> None:
        """Save after so many iterations, and leave."""
        runner.save_checkpoint(
            runner.work_dir,
            STOPPED,
            backend_args=ATOMIC,
            meta=dict(epoch=runner.epoch, iter=done, validated=validated))
        if is_main_process():
            path = Path(runner.work_dir, 'last_checkpoint')
            path.write_text(str(Path(runner.work_dir, STOPPED)))
        # a launcher kills all processes when the first of them leaves
        barrier()
        runner.logger.warning(f'{self._signal.name}: stopped after iteration '
                              f'{done}. --resume goes on from {STOPPED}')
        sys.exit(128 + self._signal)

    def after_train_epoch(self, runner) -> None:
        """Count batches from the epoch's beginning again."""
        self._restore()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep what else a run depends on."""
        # CheckpointHook saves an epoch again if it was the best
        checkpoint['meta'].setdefault('validated', self._validating)
        checkpoint[STATES] = {
            name: hook.state_dict()
            for name, hook in _stateful(runner).items()
        }
        sampler = _sampler(runner.train_loop.dataloader)
        seed = getattr(sampler, 'seed', None)
        if isinstance(seed, int):
            checkpoint['meta'][SAMPLER_SEED] = seed
        if _updated(runner):
            return
        if get_dist_info()[1] > 1:
            runner.logger.warning(
                'this checkpoint is saved while gradients accumulate, of '
                'which every process has its own: a run that is resumed from '
                'it begins to accumulate anew')
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
        meta = checkpoint.get('meta', {})
        self._sampler_seed = meta.get(SAMPLER_SEED)
        self._validated = meta.get('validated', False)
        states = checkpoint.get(STATES, {})
        for name, hook in _stateful(runner).items():
            if name in states:
                hook.load_state_dict(states[name])
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
        if get_dist_info()[1] > 1 and not self._agreed:
            found = max(all_gather_object(self._signal or 0))
            self._signal = signal.Signals(found) if found else None
            self._agreed = bool(found)
        return self._signal is not None

    def _listen(self) -> None:
        """Hear of SIGTERM and SIGINT, where Python lets us."""
        self._signal, self._agreed = None, False
        if threading.current_thread() is not threading.main_thread():
            return
        pid = os.getpid()

        def hear(number, frame) -> None:
            if os.getpid() != pid:
                return  # a dataloader's worker, which its process ends
            if self._signal is not None:
                if number == signal.SIGTERM:
                    return  # launchers and schedulers repeat it
                self._unlisten()
                signal.raise_signal(number)
            self._signal = signal.Signals(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            # a shell lets what it runs in the background ignore Ctrl-C
            if signal.getsignal(number) != signal.SIG_IGN:
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
        seed_everything(ORDER, self.batches.seed, self.epoch)
        if hasattr(self.batches.sampler, 'set_epoch'):
            self.batches.sampler.set_epoch(self.epoch)
        self.iterator = iter(self.loader)


def _batches(loop) -> Optional[NumberedBatches]:
    """The batches of a loop, if they could be numbered."""
    batches = getattr(loop.dataloader, 'batch_sampler', None)
    return batches if isinstance(batches, NumberedBatches) else None


def _sampler(loader):
    """What orders the samples of a dataloader."""
    batches = getattr(loader, 'batch_sampler', None)
    return getattr(batches, 'sampler', None)


def _updated(runner) -> bool:
    """Whether no gradients are waiting for others."""
    wrapper = runner.optim_wrapper
    return not hasattr(wrapper, '_inner_count') or wrapper.should_update()


def _in_checkpoint(runner) -> bool:
    """Whether a checkpoint has all gradients: not those of many processes."""
    return get_dist_info()[1] == 1 or _updated(runner)


class EarlyStoppingState:
    """What an ``EarlyStoppingHook`` has counted.

    Args:
        hook (EarlyStoppingHook): MMEngine's hook, which keeps no state.
    """

    def __init__(self, hook: EarlyStoppingHook) -> None:
        self.hook = hook

    def state_dict(self) -> dict:
        """Its counts."""
        return dict(
            wait_count=self.hook.wait_count,
            best_score=float(self.hook.best_score))

    def load_state_dict(self, state: dict) -> None:
        """Go on counting."""
        vars(self.hook).update(state)


def _stateful(runner) -> dict:
    """Hooks with a state, by their type and their place among its like."""
    found, seen = {}, Counter()
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            stateful = EarlyStoppingState(hook)
        elif hasattr(hook, 'state_dict') and hasattr(hook, 'load_state_dict'):
            stateful = hook
        else:
            continue
        name = type(hook).__name__
        found[f'{name}.{seen[name]}'] = stateful
        seen[name] += 1
    return found


def _count_before_saving(hooks: list) -> None:
    """Early stopping hears of a validation before it is saved."""
    early = [hook for hook in hooks if isinstance(hook, EarlyStoppingHook)]
    saving = [hook for hook in hooks if isinstance(hook, CheckpointHook)]
    for hook in early if saving else ():
        hooks.remove(hook)
        hooks.insert(hooks.index(saving[0]), hook)


def _nothing() -> None:
    """Do nothing."""
