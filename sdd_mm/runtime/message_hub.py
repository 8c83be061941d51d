# Copyright (c) sdd_mm contributors. All rights reserved.
from collections import defaultdict, deque
from typing import Callable, Iterable, Optional, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

# what MMEngine keeps of a history
MAX_LENGTH = 1000000


class History(HistoryBuffer):
    """The last values of a scalar, some of them still on their device.

    A ``HistoryBuffer`` in everything that reads it. It is copied and pickled
    as a plain one, so a checkpoint does not depend on this package.

    Args:
        length (int, optional): How many values are kept; None for as many as
            ``HistoryBuffer`` keeps.
        flush (Callable): Called before values are read where tensors are
            among them, to bring them to the host.
    """

    def __init__(self, length: Optional[int], flush: Callable[[],
                                                              None]) -> None:
        self.max_length = MAX_LENGTH if length is None else length
        self._set_default_statistics()
        self._values = deque(maxlen=self.max_length)
        self._counts = deque(maxlen=self.max_length)
        self._flush = flush
        # the tensors are among as many of the last values
        self.unread = 0

    def update(self,
               log_val: Union[int, float, Tensor],
               count: int = 1) -> None:
        """Add a value; a scalar tensor is read later."""
        on_device = isinstance(log_val, Tensor)
        if not (on_device or isinstance(log_val,
                                        (int, float))) or (not isinstance(
                                            count, (int, float))):
            raise TypeError(f'log_val must be a number, got {type(log_val)}; '
                            f'count must be one, got {type(count)}')
        self._values.append(log_val)
        self._counts.append(count)
        if on_device or self.unread:
            self.unread = min(self.unread + 1, self.max_length)

    def current(self) -> np.ndarray:
        """The last value, without an array of all of them."""
        if not self._values:
            return super().current()
        self._read()
        return np.array(self._values[-1])[()]

    def _read(self) -> None:
        if self.unread:
            self._flush()
            # if somebody took it out of the hub
            flush_all([self])

    @property
    def _log_history(self) -> np.ndarray:
        self._read()
        return np.array(list(self._values))

    @property
    def _count_history(self) -> np.ndarray:
        return np.array(list(self._counts))

    def __reduce__(self) -> tuple:
        return HistoryBuffer, self.data


def flush_all(histories: Iterable[History]) -> None:
    """Bring the values of all histories to the host, in one transfer.

    One for each device and data type, to be exact.
    """
    waiting = defaultdict(list)
    for history in histories:
        values, first = history._values, -history.unread
        for index in range(first, 0):
            value = values[index]
            if isinstance(value, Tensor):
                waiting[value.device, value.dtype].append((values, index))
        history.unread = 0
    for places in waiting.values():
        stacked = torch.stack([values[index] for values, index in places])
        for (values, index), number in zip(places, stacked.tolist()):
            values[index] = number


class DeferredMessageHub(MessageHub):
    """A message hub that does not wait for the device, and does not grow.

    Scalar tensors stay where they are until somebody reads a history that has
    one; then all of them are moved to the host together. Every history keeps
    as many values as the log can ask for.
    """

    @classmethod
    def take_over(cls, hub: MessageHub, length: Callable[[str],
                                                         Optional[int]]):
        """Change a message hub in place: runner and wrapper hold it already.

        Args:
            hub (MessageHub): The runner's.
            length (Callable): Says how many values of a scalar are kept, None
                for all.
        """
        hub.__class__ = cls
        hub._length = length
        hub._replace_histories()

    def update_scalar(self,
                      key: str,
                      value: Union[int, float, np.ndarray, Tensor],
                      count: int = 1,
                      resumed: bool = True) -> None:
        """Add a value to a history."""
        self._set_resumed_keys(key, resumed)
        if isinstance(value, Tensor):
            assert value.numel() == 1, f'{key} is not a scalar: {value.shape}'
            # a copy, for the owner may write to it before it is read
            value = value.detach().reshape(()).clone()
        else:
            value = self._get_valid_value(value)
        if key not in self._log_scalars:
            self._log_scalars[key] = self._new_history(key)
        self._log_scalars[key].update(value, count)

    def load_state_dict(self, state_dict: Union[MessageHub, dict]) -> None:
        """Load the histories, and keep of them what is needed."""
        super().load_state_dict(state_dict)
        self._replace_histories()

    def flush(self) -> None:
        """Bring all values to the host."""
        flush_all(history for history in self._log_scalars.values()
                  if isinstance(history, History))

    def _new_history(self, key: str) -> History:
        return History(self._length(key), self.flush)

    def _replace_histories(self) -> None:
        for key, old in self._log_scalars.items():
            self._log_scalars[key] = new = self._new_history(key)
            for value, count in zip(*(part[-new.max_length:].tolist()
                                      for part in old.data)):
                new.update(value, count)
