# Copyright (c) sdd_mm contributors. All rights reserved.
"""The model of the check, for the run."""
import random
from contextlib import contextmanager
from typing import Iterator, NamedTuple, Optional

import numpy as np
import torch
from mmengine.dist import sync_random_seed
from mmengine.utils import ManagerMixin
from torch import nn


class RandomState(NamedTuple):
    """State of the random generators of Python, NumPy and torch's CPU."""
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
        """Seed as MMEngine does in a single process; it draws None's seed."""
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


class Checked(NamedTuple):
    """A model that was built to check a config.

    Args:
        model (nn.Module): The model, with its teacher loaded.
        before (RandomState): The random numbers when it was built.
        after (RandomState): Those that came next.
    """
    model: nn.Module
    before: RandomState
    after: RandomState


def hand_over(runner: type, checked: Checked) -> type:
    """A runner class that takes the checked model instead of building it.

    The run is the same to the bit. The model is taken only where the runner
    would draw the same random numbers for its own, and those that come next
    are drawn next. Where the seed of a process differs, it builds its own.

    Args:
        runner (type): A class of runners, such as MMEngine's ``Runner``.
        checked (Checked): From ``check_training()``, of the same config.

    Returns:
        type: Its subclass, for one run.
    """
    # modules that keep a hub or a logger need those of the run
    keeps = any(
        isinstance(value, ManagerMixin) for module in checked.model.modules()
        for value in vars(module).values())

    class HandedOver(runner):

        def build_model(self, model):
            """The checked model, if the random numbers are the same."""
            if keeps or RandomState.now() != checked.before:
                return super().build_model(model)
            checked.after.restore()
            taken = checked.model
            if getattr(taken, 'teacher_ckpt', None) and taken.teacher_hash:
                taken.teacher_is_loaded = True
            return taken

    return HandedOver
