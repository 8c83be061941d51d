# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Optional

import torch
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ..records import FeatureHead
from .resolve import FeatureHeadError, FeatureHeadModules, find_feature_head

# largest difference from the model's own logits, relative to the largest of
# them: what rounding leaves (float32 with room for TensorFloat-32)
TOLERANCE = {
    torch.float64: 1e-8,
    torch.float32: 2e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}


@TASK_UTILS.register_module()
class FeatureHeadRecorder(BaseRecorder):
    """Records the map before global pooling and the classifier behind it.

    Without arguments it finds both in an MMPretrain classifier by itself.
    Pooling runs once a stage where a backbone returns several: the last call
    is kept. At the first recorded forward the global average of the map,
    classified, is compared with the model's own logits.

    In a config the type is written ``FeatureHead``: MMRazor appends
    ``Recorder``. The record is a :class:`sdd_mm.FeatureHead`.

    Args:
        pooling (str, optional): Name of the module whose input is the feature
            map. Defaults to None, which finds it.
        head (str, optional): Name of the linear classifier. Defaults to None,
            which finds it.

    Raises:
        FeatureHeadError: If the model is not linear after pooling, a name is
            not in it, or the logits do not match.

    Examples:
        >>> # in a config
        >>> student_recorders = dict(head=dict(type='FeatureHead'))
        >>> teacher_recorders = dict(
        ...     head=dict(
        ...         type='FeatureHead', pooling='neck.1.gap', head='head.fc'))
    """

    def __init__(self,
                 pooling: Optional[str] = None,
                 head: Optional[str] = None) -> None:
        super().__init__(source='')
        self.pooling = pooling
        self.head = head
        self.modules: Optional[FeatureHeadModules] = None
        self._recording = False
        self._feature: Optional[Tensor] = None
        self._logits: Optional[Tensor] = None
        self._logits_hook = None

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Find the modules and listen to them."""
        self.modules = find_feature_head(model, self.pooling, self.head)
        self._title = type(model).__name__
        self.modules.pooling.register_forward_pre_hook(self._keep_feature)
        self._logits_hook = self.modules.logits.register_forward_hook(
            self._keep_logits)

    def _keep_feature(self, module: nn.Module, inputs: tuple) -> None:
        if self._recording:
            feature = inputs[0]
            if isinstance(feature, (list, tuple)):
                feature = feature[-1]
            self._feature = feature

    def _keep_logits(self, module: nn.Module, inputs: tuple,
                     output: Any) -> None:
        if self._recording:
            self._logits = output

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self._recording = False
        feature, self._feature = self._feature, None
        logits, self._logits = self._logits, None
        if exc_type is not None:
            return
        if feature is None:
            raise FeatureHeadError(
                f'{self._title} did not call {self.modules.pooling_name} in '
                'this forward, so no feature map was recorded')
        linear = self.modules.linear
        record = FeatureHead(feature, linear.weight, linear.bias)
        if self._logits_hook is not None:
            self._compare(record, logits)
            self._logits_hook.remove()
            self._logits_hook = None
        self.data_buffer.append(record)

    @torch.no_grad()
    def _compare(self, record: FeatureHead, own: Any) -> None:
        """Global cell under direct pooling against the model's own logits."""
        names = (f'{self.modules.linear_name} on the average input of '
                 f'{self.modules.pooling_name}')
        if record.feature.ndim != 4:
            raise FeatureHeadError(
                f'{self._title}: the input of {self.modules.pooling_name} has '
                f'shape {tuple(record.feature.shape)}, not (B, C, h, w)')
        found = record.logits()
        if not isinstance(own, Tensor) or own.shape != found.shape:
            shape = (
                tuple(own.shape)
                if isinstance(own, Tensor) else type(own).__name__)
            raise FeatureHeadError(
                f'{self._title}: {names} gives logits of shape '
                f'{tuple(found.shape)}, the model itself returns {shape}')
        difference = (found - own).abs().max().item()
        allowed = TOLERANCE[own.dtype] * max(own.abs().max().item(), 1e-6)
        if not difference <= allowed:
            raise FeatureHeadError(
                f'{self._title}: {names} differs from the model\'s own logits '
                f'by {difference:.3g} (at most {allowed:.3g} is rounding). '
                'Something between the map and the logits is not linear, or '
                'the recorder\'s `pooling` or `head` names another module')
