# Copyright (c) sdd_mm contributors. All rights reserved.
import sys
from pathlib import Path
from typing import Optional

from mmengine.dist import (all_gather_object, barrier, get_dist_info,
                           is_main_process)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader, IterableDataset

from ..checkpoints import ATOMIC, STOPPED, write_atomically
from ..hook_states import (count_before_saving, has_stopped_early, hook_states,
                           load_hook_states)
from ..private_names import check_mmengine
from ..sample_seeding import (MODEL, ORDER, VALIDATION, NumberedBatches,
                              Worker, numbered, seed_everything)
from ..signals import StopSignals
from ..stream import Stream
from ..utils import bare_model, log_interval

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
        self._signals = StopSignals()
        self._validated = self._validating = False
        self._sampler_seed: Optional[int] = None
        self._workers = []
        self._seed = self._rank = 0
        self._restore = _nothing

    def before_run(self, runner) -> None:
        """Hear of signals while the run trains, however it ends."""
        check_mmengine(runner)
        write_atomically(runner)
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop) or 'run' in vars(loop):
            return  # it only validates or tests, or was told before
        count_before_saving(runner._hooks)
        run = loop.run

        def listening():
            self._signals.start()
            try:
                return run()
            finally:
                self._signals.stop()
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
        if has_stopped_early(runner.hooks):
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
        if runner.iter > 0 and self._signals.asked() and _in_checkpoint(
                runner):
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
        if get_dist_info()[1] > 1 and not (self._signals.agreed or batch_idx %
                                           log_interval(runner) == 0):
            return
        # the last one of an epoch belongs with what comes after it
        if (not self._ends_epoch(runner) and self._signals.asked()
                and _in_checkpoint(runner)):
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
        number = self._signals.heard
        runner.logger.warning(
            f'{number.name}: stopped after iteration {done}. '
            f'--resume goes on from {STOPPED}')
        sys.exit(128 + number)

    def after_train_epoch(self, runner) -> None:
        """Count batches from the epoch's beginning again."""
        self._restore()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep what else a run depends on."""
        # CheckpointHook saves an epoch again if it was the best
        checkpoint['meta'].setdefault('validated', self._validating)
        checkpoint[STATES] = hook_states(runner.hooks)
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
        load_hook_states(runner.hooks, checkpoint.get(STATES, {}))
        gradients = checkpoint.get(GRADIENTS, {})
        for name, weight in bare_model(runner).named_parameters():
            if name in gradients:
                weight.grad = gradients[name].to(weight.device)

    def _ends_epoch(self, runner) -> bool:
        loop = runner.train_loop
        return isinstance(loop, EpochBasedTrainLoop) and self.end_of_epoch(
            loop.dataloader, runner.iter % len(loop.dataloader))


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


def _nothing() -> None:
    """Do nothing."""
