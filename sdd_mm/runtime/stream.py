# Copyright (c) sdd_mm contributors. All rights reserved.
"""Batches of a run that counts iterations."""
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader

from .sample_seeding import ORDER, seed_everything


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

    def skip_iter(self, count: int) -> None:
        """Skip batches, as onedl-mmengine's loop does when it resumes."""
        self.done -= count

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
