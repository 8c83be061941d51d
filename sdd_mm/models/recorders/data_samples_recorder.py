# Copyright (c) sdd_mm contributors. All rights reserved.
import inspect
from abc import abstractmethod
from typing import Optional, Sequence

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import Tensor, nn


class DataSamplesRecorder(BaseRecorder):
    """Records what is in the data samples that a model is called with.

    Raises:
        ValueError: If the model's ``forward`` takes no ``data_samples``.
    """

    def __init__(self) -> None:
        super().__init__(source='')
        self._recording = False

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Record what the model's ``forward`` is called with."""
        self._title = type(model).__name__
        parameters = list(inspect.signature(model.forward).parameters)
        if 'data_samples' not in parameters:
            raise ValueError(
                f'{self._title}.forward takes no `data_samples`, so the '
                f'{type(self).__name__.removesuffix("Recorder")} recorder '
                'cannot read them')
        self._position = parameters.index('data_samples')
        model.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if not self._recording:
            return
        inputs = args[0] if args else kwargs.get('inputs')
        self.device = getattr(inputs, 'device', None)
        samples = kwargs.get('data_samples')
        if samples is None and len(args) > self._position:
            samples = args[self._position]
        if not samples:
            raise ValueError(f'{self._title} was called without data_samples, '
                             'which the distillation needs')
        self.data_buffer.append(self.read(samples))

    @abstractmethod
    def read(self, samples: Sequence) -> Tensor:
        """The record of a batch of data samples."""

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self._recording = False
