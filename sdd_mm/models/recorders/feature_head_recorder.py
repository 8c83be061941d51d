# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
from typing import Any, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ..records import FeatureHead
from .find_head import FeatureHeadError, HeadModules, find_feature_head
from .find_region import region_advice
from .modes import eval_mode, random_weights

# largest difference from the model's own logits, relative to the largest of
# them: what rounding leaves (float32 with room for TensorFloat-32)
TOLERANCE = {
    torch.float64: 1e-8,
    torch.float32: 2e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}


class MapReached(Exception):
    """Ends the forward pass of a teacher of which only the map is needed.

    Raised only if :attr:`FeatureHeadRecorder.stop_at_map` is set.
    """


@TASK_UTILS.register_module()
class FeatureHeadRecorder(BaseRecorder):
    """Records the map before global pooling and the classifier behind it.

    Without arguments it finds both in an MMPretrain classifier, and in an
    mmaction2 recognizer with an ``I3DHead``, whose map (B, C, T, h, w) it
    averages over T. If a backbone returns several stages, pooling runs once
    per stage: the last call counts.

    At the first recorded forward pass the model runs once more, in eval mode
    and with random weights in its classifier, and the logits of the average
    map are compared with the model's own. So a wrong module is found even if
    the classifier starts from zeros.

    In a config the type is written ``FeatureHead``: MMRazor appends
    ``Recorder``. The record is a :class:`sdd_mm.FeatureHead`.

    Args:
        pooling (str, optional): Name of the module whose input is the feature
            map. Defaults to None, which finds it.
        head (str, optional): Name of the linear classifier. Defaults to None,
            which finds it.
        feature (str, optional): Name of the module whose output is the
            feature map, if the pooling is not a module. Defaults to None.
        token_grid (tuple[int, int], optional): Height and width of the grid
            of tokens, row by row. Defaults to None: the map is (B, C, h, w).
        prefix_tokens (int): Class and register tokens before the grid, which
            the pooling leaves out. Defaults to 0.

    Raises:
        FeatureHeadError: If the model is not linear after pooling, a name is
            not in it, or the logits do not match.

    Examples:
        >>> # in a config
        >>> student_recorders = dict(feature_head=dict(type='FeatureHead'))
        >>> teacher_recorders = dict(
        ...     feature_head=dict(
        ...         type='FeatureHead', pooling='neck.1.gap', head='head.fc'))
        >>> # MLP-Mixer on 224 x 224 images, 16 x 16 pixels per token
        >>> student_recorders = dict(
        ...     feature_head=dict(type='FeatureHead', token_grid=(14, 14)))
    """

    def __init__(self,
                 pooling: Optional[str] = None,
                 head: Optional[str] = None,
                 feature: Optional[str] = None,
                 token_grid: Optional[Sequence[int]] = None,
                 prefix_tokens: int = 0) -> None:
        super().__init__(source='')
        if token_grid is not None and not (len(token_grid) == 2 and all(
                type(n) is int and n > 0 for n in token_grid)):
            raise ValueError('token_grid must be two positive integers '
                             f'(h, w), got {token_grid!r}')
        if type(prefix_tokens) is not int or prefix_tokens < 0 or (
                prefix_tokens and token_grid is None):
            raise ValueError('prefix_tokens must be the number of tokens '
                             'before those of token_grid=(h, w), got '
                             f'{prefix_tokens!r}')
        self.pooling = pooling
        self.head = head
        self.feature = feature
        self.token_grid = token_grid and tuple(token_grid)
        self.prefix_tokens = prefix_tokens
        self.modules: Optional[HeadModules] = None
        # 'student' or 'teacher', for messages
        self.role = ''
        # whether to raise MapReached at the map, once the map is checked and
        # unless it is changed later
        self.stop_at_map = False
        # from the model's own logits, relative to the largest of them
        self.difference: Optional[float] = None
        self._recording = False
        self._checked = False
        # whether what follows changes the map in place
        self._changes = False
        self._heard: Optional[Tensor] = None
        # calls of the source in this forward pass, and in the checked one
        self._calls = self._all_calls = 0
        self._feature: Optional[Tensor] = None
        self._logits: Any = None
        self._inputs: Tuple[tuple, dict] = ((), {})

    def find(self, model: nn.Module) -> HeadModules:
        """Find the map and the linear classifier."""
        tokens = self.token_grid is not None
        try:
            return find_feature_head(model, self.pooling, self.head,
                                     self.feature, tokens)
        except FeatureHeadError as error:
            if self.pooling or self.head or self.feature:
                raise
            raise FeatureHeadError(
                f'{error}{region_advice(model, tokens)}') from None

    def make_record(self, feature: Tensor, logits: Any):
        """The record of a map, (B, C, h, w), and the model's own logits."""
        linear = self.modules.classifier
        return FeatureHead(feature, linear.weight, linear.bias)

    @property
    def title(self) -> str:
        """The model and its role, for a message."""
        return f'{self.role} {type(self._model).__name__}'.strip()

    @property
    def where(self) -> str:
        """What is recorded, for a log."""
        return f'{self.modules.source}, classifier {self.modules.title}'

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
            if not self._checked and isinstance(feature, Tensor):
                self._heard = feature.clone()
            if (self.stop_at_map and self._checked and not self._changes
                    and self._calls == self._all_calls):
                raise MapReached

    def _keep_logits(self, module: nn.Module, inputs: tuple,
                     output: Any) -> None:
        if self._recording:
            self._logits = getattr(output, 'logits', output)

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
                self._all_calls = self._all_calls or self._calls
                record, _ = self._take()
                if not self._checked:
                    self._check(record)
                self.data_buffer.append(record)
        finally:
            self._recording = False
            self._feature = self._logits = None
            self._inputs = (), {}

    def _take(self):
        """The record of the last forward pass, and the model's own logits."""
        feature, self._feature = self._feature, None
        logits, self._logits = self._logits, None
        if feature is None:
            raise FeatureHeadError(
                f'{self.title} did not call {self.modules.source.name} in '
                'this forward pass, so no feature map was recorded')
        return self.make_record(self._as_map(feature), logits), logits

    def _as_map(self, feature: Tensor) -> Tensor:
        """A map as it is, the frames' average, or tokens on their grid."""
        if not isinstance(feature, Tensor):
            raise FeatureHeadError(
                f'{self.title}: the {self.modules.source} is a '
                f'{type(feature).__name__}, not a feature map: name a module '
                'inside it')
        grid = self.token_grid or self.modules.source.token_grid
        if grid is None and feature.ndim == 4:
            return feature
        if grid is None and feature.ndim == 5:
            # the pyramid of a clip averages all frames first
            wide = torch.promote_types(feature.dtype, torch.float32)
            return feature.mean(2, dtype=wide)
        found = (f'{self.title}: the {self.modules.source} has shape '
                 f'{tuple(feature.shape)}')
        if grid is None:
            raise FeatureHeadError(
                f'{found}, not (B, C, h, w). If these are tokens, give '
                'their grid: token_grid=(h, w)')
        if feature.ndim != 3:
            raise FeatureHeadError(
                f'{found}, which are not tokens: leave token_grid out')
        # modules return tokens as (B, L, C), 1-D pooling takes (B, C, L)
        if self.modules.source.after:
            feature = feature.transpose(1, 2)
        feature = feature[:, :, self.prefix_tokens:]
        if feature.shape[2] != grid[0] * grid[1]:
            raise FeatureHeadError(
                f'{found}: {feature.shape[2]} tokens do not fill token_grid='
                f'{grid}: set it to (height, width) in patches of images of '
                'this size')
        return feature.unflatten(2, grid)

    @torch.no_grad()
    def _check(self, record) -> None:
        """Compare with the model's own logits, once."""
        self._check_aspect()
        self._check_size(record.map_size)
        args, kwargs = self._inputs
        # autocast would keep half precision copies of the weights
        plain = torch.autocast(record.feature.device.type, enabled=False)
        with eval_mode(self._model), plain, random_weights(
                self.modules.layers):
            self._model(*args, **kwargs)
            if self._heard is not None:
                self._changes = not torch.equal(self._heard, self._feature)
                self._heard = None
            problem = self._compare(*self._take())
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
                 'so all cells are the same')
        if self.feature is not None:
            raise FeatureHeadError(
                f'{found}: it is pooled already. Name the module before the '
                f'pooling, or pooling={self.feature!r} for the input of this '
                'module')
        print_log(
            f'{found}: this is plain distillation. Use larger images, or a '
            'network with a smaller stride',
            logger='current',
            level=logging.WARNING)

    def _compare(self, record, own: Any) -> Optional[str]:
        """How the logits of the average map differ from the model's own."""
        names = (f'{self.title}: {self.modules.title} on the average '
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
                f'{difference:.3g} under random weights (at most '
                f'{allowed:.3g} is rounding). Something else lies between the '
                'map and the logits, or the recorder names another module')
