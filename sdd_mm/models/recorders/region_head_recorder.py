# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Optional, Sequence

from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ..records import RegionHead
from .map_recorder import MapRecorder
from .region import RegionModules, find_region_head


@TASK_UTILS.register_module()
class RegionHeadRecorder(MapRecorder):
    """Records the map before global pooling and everything that follows.

    For classifiers that are not linear after pooling: a hidden layer
    (MobileNetV3), a normalisation (ConvNeXt), another mean than the average
    (``GeneralizedMeanPooling``). The whole tail is applied to every pooled
    cell; pooling and tail do not commute, so this is not the paper's SDD. For
    the cells the tail runs in eval mode: dropout is off, and batch norm takes
    its running statistics and leaves them alone.

    In a config the type is written ``RegionHead``: MMRazor appends
    ``Recorder``. The record is a :class:`sdd_mm.RegionHead`.

    Where the map's place is named, the tail is the model's head.

    Args:
        pooling (str, optional): Name of the module whose input is the feature
            map. Defaults to None, which finds it.
        feature (str, optional): Name of the module whose output is the
            feature map, where the pooling is not a module. Defaults to None.
        token_grid (tuple[int, int], optional): Height and width of the grid
            that tokens lie on, row by row. Defaults to None: the map is
            (B, C, h, w).

    Raises:
        FeatureHeadError: If the model pools no map, a name is not in it, or
            the logits do not match.

    Examples:
        >>> # in a config: a ConvNeXt teaches
        >>> distiller = dict(
        ...     type='SDDDistiller',
        ...     teacher_recorders=dict(feature_head=dict(type='RegionHead')),
        ...     distill_losses=dict(loss_sdd=dict(
        ...         type='ScaleDecoupledLoss',
        ...         criterion=dict(type='KDCriterion'))))
    """

    def __init__(self,
                 pooling: Optional[str] = None,
                 feature: Optional[str] = None,
                 token_grid: Optional[Sequence[int]] = None) -> None:
        super().__init__(pooling, feature, token_grid)

    def find(self, model: nn.Module) -> RegionModules:
        """Find the map and the tail."""
        return find_region_head(model, self.pooling, self.feature,
                                self.token_grid is not None)

    def make_record(self, feature: Tensor, logits: Any) -> RegionHead:
        """The map with the tail and the model's own logits."""
        tail = self.modules.tail
        return RegionHead(tail.prepare(feature), tail, logits)

    @property
    def classifier(self) -> str:
        """The layers of the tail."""
        return f'tail ({self.modules.tail})'
