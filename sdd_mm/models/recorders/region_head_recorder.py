# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Optional, Sequence

from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ..records import RegionHead
from .feature_head_recorder import FeatureHeadRecorder
from .find_head import HeadModules
from .find_region import find_region_head


@TASK_UTILS.register_module()
class RegionHeadRecorder(FeatureHeadRecorder):
    """Records the map before global pooling and everything that follows.

    A :class:`FeatureHeadRecorder` for classifiers that are not linear after
    pooling: a hidden layer (MobileNetV3), a normalization (ConvNeXt), another
    mean than the average (``GeneralizedMeanPooling``). The whole tail is
    applied to every pooled cell. Pooling and tail do not commute, so this is
    not the paper's SDD. For the cells the tail runs in eval mode: dropout is
    off, and batch norm uses its running statistics and does not update them.

    In a config the type is written ``RegionHead``. The record is a
    :class:`sdd_mm.RegionHead`.

    Args:
        pooling (str, optional): See :class:`FeatureHeadRecorder`. If the
            map's place is named, the tail is the model's head, or ``tail``.
        feature (str, optional): See :class:`FeatureHeadRecorder`.
        token_grid (tuple[int, int], optional): See
            :class:`FeatureHeadRecorder`.
        prefix_tokens (int): See :class:`FeatureHeadRecorder`. Defaults to 0.
        tail (Sequence[str]): Names of the modules after the pooling, in their
            order, the last one with the logits. For a ``ModuleClassifier``,
            whose head is a part of its module. Defaults to (), which is the
            model's head.

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
        >>> # a vision transformer of timm with a norm after its pooling
        >>> teacher_recorders = dict(
        ...     feature_head=dict(
        ...         type='RegionHead',
        ...         feature='backbone.net.norm',
        ...         token_grid=(16, 16),
        ...         prefix_tokens=4,
        ...         tail=('backbone.net.fc_norm', 'backbone.net.head')))
    """

    def __init__(self,
                 pooling: Optional[str] = None,
                 feature: Optional[str] = None,
                 token_grid: Optional[Sequence[int]] = None,
                 prefix_tokens: int = 0,
                 tail: Sequence[str] = ()) -> None:
        super().__init__(
            pooling=pooling,
            feature=feature,
            token_grid=token_grid,
            prefix_tokens=prefix_tokens)
        if isinstance(tail, str):
            raise ValueError('tail must be names of modules, such as '
                             f'({tail!r}, ), got {tail!r}')
        self.tail = tuple(tail)

    def find(self, model: nn.Module) -> HeadModules:
        """Find the map and the tail."""
        return find_region_head(model, self.pooling, self.feature,
                                self.token_grid is not None, self.tail)

    def make_record(self, feature: Tensor, logits: Any) -> RegionHead:
        """The map with the tail and the model's own logits."""
        tail = self.modules.classifier
        return RegionHead(tail.prepare(feature), tail, logits)
