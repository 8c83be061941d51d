# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
from abc import abstractmethod
from typing import Any, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import Tensor, nn

from .resolve import FeatureHeadError

# largest difference from the model's own logits, relative to the largest of
# them: what rounding leaves (float32 with room for TensorFloat-32)
TOLERANCE = {
    torch.float64: 1e-8,
    torch.float32: 2e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}


class MapReached(Exception):
    """Ends the forward of a teacher whose map is all that is needed.

    Only for who asked: see ``MapRecorder.stop_at_map``.
    """


class MapRecorder(BaseRecorder):
    """Records the map before global pooling with what classifies it.

    Pooling runs once a stage where a backbone returns several: the last call
    is kept. At the first recorded forward the logits of the global average
    are compared with the model's own; where they differ and the model trains,
    once more in eval mode, since dropout and batch statistics may be why.

    Args:
        pooling (str, optional): Name of the module whose input is the feature
            map. Defaults to None, which finds it.
        feature (str, optional): Name of the module whose output is the
            feature map, where the pooling is not a module. Defaults to None.
        token_grid (tuple[int, int], optional): Height and width of the grid
            that tokens lie on, row by row. Defaults to None: the map is
            (B, C, h, w).
    """

    def __init__(self,
                 pooling: Optional[str] = None,
                 feature: Optional[str] = None,
                 token_grid: Optional[Sequence[int]] = None) -> None:
        super().__init__(source='')
        if token_grid is not None and not (len(token_grid) == 2 and all(
                type(n) is int and n > 0 for n in token_grid)):
            raise ValueError('token_grid must be two positive integers '
                             f'(h, w), got {token_grid!r}')
        self.pooling = pooling
        self.feature = feature
        self.token_grid = token_grid and tuple(token_grid)
        self.modules = None
        self.role = ''
        # whether to raise MapReached at the map, once the map is checked
        self.stop_at_map = False
        # from the model's own logits, as a part of the largest of them
        self.difference: Optional[float] = None
        self._recording = False
        self._checked = False
        # calls of the source in this forward, and in the checked one
        self._calls = self._all_calls = 0
        self._feature: Optional[Tensor] = None
        self._logits: Any = None
        self._inputs: Tuple[tuple, dict] = ((), {})

    @abstractmethod
    def find(self, model: nn.Module):
        """The modules: a tuple with ``source`` and ``logits``."""

    @abstractmethod
    def make_record(self, feature: Tensor, logits: Any):
        """The record of a map, (B, C, h, w), and the model's own logits."""

    @property
    @abstractmethod
    def classifier(self) -> str:
        """What classifies a cell."""

    @property
    def title(self) -> str:
        """The model, for a message, with its role if a distiller told it."""
        name = type(self._model).__name__
        return f'{self.role} {name}' if self.role else name

    @property
    def where(self) -> str:
        """What is recorded, for a log."""
        return f'{self.modules.source}, classifier {self.classifier}'

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Find the modules and listen to them."""
        self._model = model
        self.modules = self.find(model)
        source = self.modules.source
        if source.after:
            source.module.register_forward_hook(self._keep_output)
        else:
            source.module.register_forward_pre_hook(self._keep_input)
        self.modules.logits.register_forward_hook(self._keep_logits)
        model.register_forward_pre_hook(self._keep_call, with_kwargs=True)

    def _keep_input(self, module: nn.Module, inputs: tuple) -> None:
        self._keep_feature(inputs[0])

    def _keep_output(self, module: nn.Module, inputs: tuple,
                     output: Any) -> None:
        self._keep_feature(output)

    def _keep_feature(self, feature: Any) -> None:
        if self._recording:
            if isinstance(feature, (list, tuple)):
                feature = feature[-1]
            self._feature = feature
            self._calls += 1
            if (self.stop_at_map and self._checked
                    and self._calls == self._all_calls):
                raise MapReached

    def _keep_logits(self, module: nn.Module, inputs: tuple,
                     output: Any) -> None:
        if self._recording:
            self._logits = output

    def _keep_call(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._recording and not self._checked:
            self._inputs = args, kwargs

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True
        self._calls = 0

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        try:
            if exc_type is None:
                record, logits = self._take()
                if not self._checked:
                    self._all_calls = self._calls
                    self._check(record, logits)
                self.data_buffer.append(record)
        finally:
            self._recording = False
            self._feature = self._logits = None
            self._inputs = (), {}

    def _take(self):
        """The record of the last forward, and the model's own logits."""
        feature, self._feature = self._feature, None
        logits, self._logits = self._logits, None
        if feature is None:
            raise FeatureHeadError(
                f'{self.title} did not call {self.modules.source.name} in '
                'this forward, so no feature map was recorded')
        return self.make_record(self._as_map(feature), logits), logits

    def _as_map(self, feature: Tensor) -> Tensor:
        """A feature map as it is, or tokens laid out on their grid."""
        found = (f'{self.title}: the {self.modules.source} has shape '
                 f'{tuple(feature.shape)}')
        grid = self.token_grid or self.modules.source.token_grid
        if grid is None:
            if feature.ndim != 4:
                raise FeatureHeadError(
                    f'{found}, not (B, C, h, w). If these are tokens, say on '
                    'which grid they lie: token_grid=(h, w)')
            return feature
        if feature.ndim != 3:
            raise FeatureHeadError(
                f'{found}, which are not tokens: leave token_grid out')
        # modules return tokens as (B, L, C), 1-D pooling takes (B, C, L)
        if self.modules.source.after:
            feature = feature.transpose(1, 2)
        if feature.shape[2] != grid[0] * grid[1]:
            raise FeatureHeadError(
                f'{found}: {feature.shape[2]} tokens do not lie on token_grid='
                f'{grid}')
        return feature.unflatten(2, grid)

    @torch.no_grad()
    def _check(self, record, logits: Any) -> None:
        """Compare with the model's own logits, once."""
        self._check_aspect()
        self._check_size(record.map_size)
        problem = self._difference(record, logits)
        if problem and self._model.training:
            problem = self._difference(*self._in_eval_mode())
            if not problem:
                print_log(
                    f'{self.title}: dropout or batch norm after pooling is '
                    'as in eval mode for the cells',
                    logger='current')
        if problem:
            raise FeatureHeadError(problem)
        self._checked = True

    def _check_aspect(self) -> None:
        """A token covers as many pixels in height as in width."""
        images = next(iter(self._inputs[0]), None)
        if self.token_grid is None or not isinstance(images, Tensor):
            return
        (height, width), (h, w) = images.shape[-2:], self.token_grid
        if height * w != width * h:
            raise FeatureHeadError(
                f'{self.title}: token_grid={self.token_grid} does not have '
                f'the shape of the {height} x {width} images')

    def _check_size(self, size: Tuple[int, int]) -> None:
        """All cells of a 1 x 1 map are the same."""
        if size != (1, 1):
            return
        found = (f'{self.title}: the {self.modules.source} is a 1 x 1 map, '
                 'all cells are the same')
        if self.feature is not None:
            raise FeatureHeadError(
                f'{found}: it is pooled already. Name the module before the '
                f'pooling, or pooling={self.feature!r} for what this module '
                'is given')
        print_log(
            f'{found}: this is plain distillation. Larger images, or a '
            'network with a smaller stride, have more',
            logger='current',
            level=logging.WARNING)

    def _in_eval_mode(self):
        """The same forward without dropout and batch statistics."""
        training = [m for m in self._model.modules() if m.training]
        args, kwargs = self._inputs
        self._model.eval()
        try:
            self._model(*args, **kwargs)
        finally:
            for module in training:
                module.training = True
        return self._take()

    def _difference(self, record, own: Any) -> Optional[str]:
        """How the global average's logits differ from the model's own."""
        names = (f'{self.title}: {self.classifier} on the average '
                 f'{self.modules.source}')
        try:
            found = record.local_logits((1, ), 'direct')[0]
        except (ValueError, RuntimeError) as error:
            return (f'{names} fails on its shape '
                    f'{tuple(record.feature.shape)}: {error}. The recorder '
                    'names another module than the one before the classifier')
        if not isinstance(own, Tensor) or own.shape != found.shape:
            shape = (
                tuple(own.shape)
                if isinstance(own, Tensor) else type(own).__name__)
            return (f'{names} gives logits of shape {tuple(found.shape)}, the '
                    f'model itself returns {shape}')
        difference = (found - own).abs().max().item()
        largest = max(own.abs().max().item(), 1e-6)
        allowed = TOLERANCE[own.dtype] * largest
        self.difference = difference / largest
        if difference <= allowed:
            return None
        return (f'{names} differs from the model\'s own logits by '
                f'{difference:.3g} (at most {allowed:.3g} is rounding). What '
                'lies between the map and the logits is something else, or '
                'the recorder names another module')
