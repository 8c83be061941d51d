# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the networks of a trained run say of images, cell by cell."""
from dataclasses import dataclass
from typing import Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..engine.errors import PreflightError
from ..engine.hooks.utils import num_classes
from ..images import loads_files, preprocessor_of
from ..models.algorithms import FrozenTeacherDistill
from ..models.losses import ScaleDecoupledLoss
from ..models.recorders import FeatureHeadRecorder
from ..models.recorders.map_recorder import MapRecorder

SCALES = (1, 2, 4)


@dataclass(frozen=True)
class Outputs:
    """What one network says of a set of images.

    Args:
        labels (Tensor): Shape (n,).
        logits (Tensor): Its logits, (n, K).
        cells (Tensor): Its local logits' classes, (N, n): scale by scale,
            row-major inside a scale.
        features (Tensor): The average of its feature map, (n, C).
        scales (tuple[int]): The scales of the cells.
        pooling (str): Their pooling. Defaults to 'hierarchical'.
    """
    labels: Tensor
    logits: Tensor
    cells: Tensor
    features: Tensor
    scales: Tuple[int, ...]
    pooling: str = 'hierarchical'

    @property
    def classes(self) -> Tensor:
        """Its verdicts on the images, (n,)."""
        return self.logits.argmax(dim=1)

    @property
    def right(self) -> Tensor:
        """On which images it is right, (n,)."""
        return self.classes == self.labels

    @property
    def compared(self) -> Tensor:
        """The verdicts that its cells are compared with, (n,).

        As in the loss: under hierarchical pooling those of scale 1, if it is
        one of the scales.
        """
        if self.pooling == 'hierarchical' and 1 in self.scales:
            return self.at(1)[0]
        return self.classes

    def consistent(self, consistency: str) -> Tensor:
        """Which cells are consistent, (N, n).

        Args:
            consistency (str): 'label' or 'class', as in
                ``ScaleDecoupledLoss``.
        """
        if consistency == 'class':
            return self.cells == self.compared
        return (self.cells == self.labels) == (self.compared == self.labels)

    def at(self, scale: int) -> Tensor:
        """The classes of one scale's cells, (scale * scale, n)."""
        return self.split(self.cells)[self.scales.index(scale)]

    def split(self, cells: Tensor) -> Tuple[Tensor, ...]:
        """What there is for every cell, (N, n), by scale."""
        return cells.split([m * m for m in self.scales])


@dataclass(frozen=True)
class TrainedRun:
    """A distillation as it was trained.

    Args:
        model (FrozenTeacherDistill): In evaluation mode, with its teacher.
        cfg (Config): Its config.
        names (list[str]): The names of its classes.
    """
    model: FrozenTeacherDistill
    cfg: Config
    names: List[str]

    @property
    def grid(self) -> Tuple[Tuple[int, ...], str]:
        """Scales and pooling of its SDD loss, or of a default one."""
        loss = self._loss()
        return loss.grid if loss else (SCALES, 'hierarchical')

    @property
    def consistency(self) -> str:
        """What its SDD loss, or a default one, calls a consistent cell."""
        loss = self._loss()
        return loss.consistency if loss else 'label'

    def _loss(self) -> Optional[ScaleDecoupledLoss]:
        losses = self.model.distiller.distill_losses.values()
        return next(
            (loss for loss in losses if isinstance(loss, ScaleDecoupledLoss)),
            None)

    @property
    def loads_files(self) -> bool:
        """Whether its images come from files, and so are BGR."""
        return loads_files(self.cfg.val_dataloader)

    def picture(self, inputs: Tensor) -> np.ndarray:
        """An image as its pipeline gives it, (H, W, 3), RGB."""
        image = inputs.permute(1, 2, 0).byte().numpy()
        return image[..., ::-1] if self.loads_files else image

    def classify(self,
                 role: str,
                 batches: Iterable,
                 scales: Optional[Sequence[int]] = None) -> Outputs:
        """What its teacher or its student says of batches.

        Args:
            role (str): 'teacher' or 'student'.
            batches (Iterable): What a dataloader gives.
            scales (Sequence[int], optional): The scale set M. Defaults to
                None: that of the run's SDD loss.
        """
        own, pooling = self.grid
        network, preprocessor = self.model.architecture, (
            self.model.data_preprocessor)
        if role == 'teacher':
            network = self.model.teacher
            preprocessor = network.data_preprocessor
        recorders = getattr(self.model.distiller,
                            f'{role}_recorders').recorders
        recorder = next((recorder for recorder in recorders.values()
                         if isinstance(recorder, MapRecorder)), None)
        if recorder is None:
            recorder = FeatureHeadRecorder()
            recorder.initialize(network)
        recorder.stop_at_map = False
        return classify(network, preprocessor, recorder, batches, scales
                        or own, pooling)


def load_run(checkpoint: str, config: Optional[str] = None) -> TrainedRun:
    """A distillation, from a checkpoint of it.

    Args:
        checkpoint (str): A checkpoint of the run.
        config (str, optional): Its config. Defaults to None: the one that the
            checkpoint holds.

    Raises:
        PreflightError: If it is no checkpoint of a distillation.
        TeacherError: If the teacher's checkpoint is not where it was.

    Returns:
        TrainedRun: Its model, config and classes.
    """
    try:
        content = CheckpointLoader.load_checkpoint(
            checkpoint, map_location='cpu', logger='silent')
        text = content['meta']['cfg']
        weights = content['state_dict']
    except Exception as error:  # a broken file may raise anything
        raise PreflightError(f'{checkpoint} is no checkpoint of a run: '
                             f'{type(error).__name__}: {error}') from error
    cfg = Config.fromfile(config) if config else Config.fromstring(text, '.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(cfg.model, data_preprocessor=preprocessor_of(cfg)))
    if not isinstance(model, FrozenTeacherDistill):
        raise PreflightError(
            f'{checkpoint} is of a {type(model).__name__}, which has no '
            'teacher: name a checkpoint of a FrozenTeacherDistill')
    model.load_state_dict(weights)
    model.load_teacher()
    meta = content['meta'].get('dataset_meta') or {}
    names = meta.get('classes') or range(num_classes(model) or 0)
    return TrainedRun(model.eval(), cfg, list(map(str, names)))


def validation_loader(cfg: Config):
    """A run's validation images, in order, loaded by this process."""
    loader = dict(cfg.val_dataloader, num_workers=0)
    loader['sampler'] = dict(type='DefaultSampler', shuffle=False)
    loader.setdefault('collate_fn', dict(type='default_collate'))
    for key in ('persistent_workers', 'prefetch_factor'):
        loader.pop(key, None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Runner.build_dataloader(loader)


@torch.no_grad()
def classify(network: nn.Module,
             preprocessor: nn.Module,
             recorder: MapRecorder,
             batches: Iterable,
             scales: Sequence[int] = SCALES,
             pooling: str = 'hierarchical') -> Outputs:
    """What a network says of batches, and of every cell of them.

    Args:
        network (nn.Module): A classifier in evaluation mode.
        preprocessor (nn.Module): Its data preprocessor.
        recorder (MapRecorder): A recorder that listens to the network.
        batches (Iterable): What a dataloader gives.
        scales (Sequence[int]): The scale set M. Defaults to (1, 2, 4).
        pooling (str): See :func:`sdd_mm.functional.local_logits`. Defaults to
            'hierarchical'.

    Returns:
        Outputs: On the CPU.
    """
    found: List[Tuple[Tensor, ...]] = []
    for batch in batches:
        data = preprocessor(batch)
        with recorder:
            logits = network(data['inputs'])
        record, = recorder.data_buffer
        local = record.local_logits(scales, pooling)
        labels = torch.cat([one.gt_label for one in data['data_samples']])
        found.append((labels, logits, local.argmax(dim=-1).T,
                      record.feature.flatten(2).mean(dim=2)))
    labels, logits, cells, features = (
        torch.cat(parts).float().cpu() for parts in zip(*found))
    return Outputs(labels.long(), logits,
                   cells.long().T, features, tuple(scales), pooling)
