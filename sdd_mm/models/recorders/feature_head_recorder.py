# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Optional, Sequence

from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ..records import FeatureHead
from .map_recorder import MapRecorder
from .region import region_advice
from .resolve import FeatureHeadError, FeatureHeadModules, find_feature_head


@TASK_UTILS.register_module()
class FeatureHeadRecorder(MapRecorder):
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
        feature (str, optional): Name of the module whose output is the
            feature map, where the pooling is not a module. Defaults to None.
        token_grid (tuple[int, int], optional): Height and width of the grid
            that tokens lie on, row by row. Defaults to None: the map is
            (B, C, h, w).

    Raises:
        FeatureHeadError: If the model is not linear after pooling, a name is
            not in it, or the logits do not match.

    Examples:
        >>> # in a config
        >>> student_recorders = dict(feature_head=dict(type='FeatureHead'))
        >>> teacher_recorders = dict(
        ...     feature_head=dict(
        ...         type='FeatureHead', pooling='neck.1.gap', head='head.fc'))
        >>> # MLP-Mixer on 224 x 224 images, 16 x 16 pixels a token
        >>> student_recorders = dict(
        ...     feature_head=dict(type='FeatureHead', token_grid=(14, 14)))
    """

    def __init__(self,
                 pooling: Optional[str] = None,
                 head: Optional[str] = None,
                 feature: Optional[str] = None,
                 token_grid: Optional[Sequence[int]] = None) -> None:
        super().__init__(pooling, feature, token_grid)
        self.head = head

    def find(self, model: nn.Module) -> FeatureHeadModules:
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

    def make_record(self, feature: Tensor, logits: Any) -> FeatureHead:
        """The map with the weight and bias of the classifier."""
        linear = self.modules.linear
        return FeatureHead(feature, linear.weight, linear.bias)

    @property
    def classifier(self) -> str:
        """Name of the linear classifier."""
        return self.modules.linear_name
