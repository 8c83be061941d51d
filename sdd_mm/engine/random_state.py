# Copyright (c) sdd_mm contributors. All rights reserved.
"""The random numbers of a process, on its CPU."""
import random
from contextlib import contextmanager
from typing import Iterator, NamedTuple, Optional

import numpy as np
import torch
from mmengine.dist import sync_random_seed


class RandomState(NamedTuple):
    """The state of Python's, NumPy's and torch's random generators.

    Args:
        python (tuple): Of ``random``.
        numpy (tuple): Of ``np.random``.
        torch (bytes): Of torch's generator for the CPU.
    """
    python: tuple
    numpy: tuple
    torch: bytes

    @classmethod
    def now(cls) -> 'RandomState':
        """The present state."""
        name, keys, *rest = np.random.get_state()
        return cls(random.getstate(), (name, keys.tobytes(), *rest),
                   torch.random.get_rng_state().numpy().tobytes())

    @classmethod
    def seeded(cls, seed: Optional[int]) -> 'RandomState':
        """Seed as a runner of a single process does on the CPU.

        Args:
            seed (int, optional): Its ``randomness.seed``. None: the seed that
                MMEngine would draw now.
        """
        seed = sync_random_seed() if seed is None else seed
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        return cls.now()

    @classmethod
    @contextmanager
    def kept(cls) -> Iterator[None]:
        """Leave the state as it is, whatever a block draws."""
        state = cls.now()
        try:
            yield
        finally:
            state.restore()

    def restore(self) -> None:
        """Make this the present state."""
        random.setstate(self.python)
        name, keys, *rest = self.numpy
        np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))
        torch.random.set_rng_state(
            torch.frombuffer(bytearray(self.torch), dtype=torch.uint8))
