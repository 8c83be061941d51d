# Copyright (c) sdd_mm contributors. All rights reserved.
"""Samples whose randomness depends on which draw of a run they are."""
import os
import random
import signal
from copy import copy
from hashlib import blake2b
from multiprocessing import Value
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

DATA, MODEL, VALIDATION, ORDER = 0, 1, 2, 3
"""What a stream of random numbers is for."""


def stream_seed(*key: int) -> int:
    """A seed of 64 bits from a few integers, by a hash."""
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little')


def seed_everything(*key: int) -> None:
    """Seed Python, NumPy and torch from a few integers.

    Other than ``torch.manual_seed`` it leaves GPUs alone where none is used,
    and it never waits for one.
    """
    seed = stream_seed(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


class Draw(int):
    """Position of a sample in its data set, with the number of its draw.

    Args:
        index (int): Position in the data set.
        key (tuple[int]): Seed of the run, epoch, and number of the draw in
            its epoch, over all processes.
    """

    def __new__(cls, index: int, key: Tuple[int, ...] = ()) -> 'Draw':
        self = super().__new__(cls, index)
        self.key = key
        return self

    @property
    def seed(self) -> int:
        """Of whatever is random about the sample."""
        return stream_seed(DATA, *self.key)


class NumberedBatches:
    """A batch sampler whose positions know which draw they are.

    Args:
        batches (BatchSampler): What it numbers.
        seed (int): Seed of the run, the same in all processes.
        rank (int): Number of this process. Defaults to 0.
        world_size (int): Number of processes. Defaults to 1.
    """

    def __init__(self,
                 batches: BatchSampler,
                 seed: int,
                 rank: int = 0,
                 world_size: int = 1) -> None:
        self.batches = batches
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.skip = 0

    @property
    def sampler(self):
        """The sampler of positions."""
        return self.batches.sampler

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        return self.batches.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether a smaller last batch is left out."""
        return self.batches.drop_last

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[List[Draw]]:
        skip, self.skip = self.skip, 0
        number = self.rank
        for count, batch in enumerate(self.batches):
            draws = []
            for index in batch:
                draws.append(Draw(index, (self.seed, self.epoch, number)))
                number += self.world_size
            if count >= skip:
                yield draws


class DrawnDataset(Dataset):
    """A data set whose samples depend on nothing but their draw.

    Whatever else its pipeline has drawn before, in whichever worker.

    Args:
        dataset (Dataset): Any data set.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    current: Optional[Draw] = None
    """The draw that a data set of this process is being asked for."""

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, Draw):
            return self.dataset[index]
        seed_everything(DATA, *index.key)
        DrawnDataset.current = index
        try:
            return self.dataset[int(index)]
        finally:
            DrawnDataset.current = None

    def __getitems__(self, indices: Sequence[int]) -> list:
        return [self[index] for index in indices]

    def __len__(self) -> int:
        return len(self.dataset)

    def __setattr__(self, name: str, value: Any) -> None:
        # hooks change the pipeline of what they take for the data set
        if name == 'dataset':
            object.__setattr__(self, name, value)
        else:
            setattr(self.dataset, name, value)

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Worker:
    """Begins a worker that outlives a SIGTERM, until its process is done.

    A scheduler or launcher signals all processes; the run still needs its
    workers for the iteration that it ends with. When it is done, a SIGTERM is
    its own, and ends a worker at once.

    Args:
        begin (Callable, optional): What a worker does first.
    """
    seconds = 5

    def __init__(self, begin: Optional[Callable[[int], None]]) -> None:
        self.begin = begin
        self._done = Value('b', 0, lock=False)

    def let_go(self) -> None:
        """Let the workers end."""
        self._done.value = 1

    def _hear(self, number, frame) -> None:
        # or its process is gone
        if self._done.value or os.getppid() != self._parent:
            os._exit(0)
        signal.alarm(self.seconds)

    def __call__(self, worker_id: int) -> None:
        self._parent = os.getppid()
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGALRM, self._hear)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.begin is not None:
            self.begin(worker_id)


def numbered(loader: DataLoader, seed: int, rank: int,
             world_size: int) -> DataLoader:
    """The same dataloader, with draws for positions.

    A copy, since ``DataLoader`` refuses other batches once it is built, and
    building it anew would lose every setting that nobody thought of. It
    differs in ``dataset``, ``batch_sampler`` and ``worker_init_fn`` alone;
    ``batch_size``, ``sampler`` and ``drop_last`` answer as before.

    Args:
        loader (DataLoader): One with a batch sampler.
        seed (int): Seed of the run.
        rank (int): Number of this process.
        world_size (int): Number of processes.
    """
    dataset = loader.dataset
    # a data set that gives whole batches knows draws itself
    if not getattr(dataset, 'knows_draws', False):
        dataset = DrawnDataset(dataset)
    result = copy(loader)
    vars(result).update(
        dataset=dataset,
        batch_sampler=NumberedBatches(loader.batch_sampler, seed, rank,
                                      world_size),
        worker_init_fn=Worker(loader.worker_init_fn),
        _iterator=None)  # workers that persist know the old data set
    return result
