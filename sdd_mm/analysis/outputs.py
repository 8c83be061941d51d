# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the networks of a trained run say of images, cell by cell."""
from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ..config_file import load_config, named
from ..engine.config_keys import check_options
from ..engine.errors import PreflightError
from ..engine.hooks.frozen_teacher_hook import META
from ..functional.local_logits import check_scales
from ..images import loads_files, preprocessor_of
from ..models.algorithms import FrozenTeacherDistill
from ..models.losses import ScaleDecoupledLoss
from ..models.recorders import FeatureHeadRecorder
from ..runtime.utils import num_classes
from ..weights import read_checkpoint

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
        meta (dict): What else its checkpoint knows, such as ``epoch``.
        loss (str, optional): Which of its SDD losses cells are looked at as
            by. None if it has none.
    """
    model: FrozenTeacherDistill
    cfg: Config
    names: List[str]
    meta: dict
    loss: Optional[str]

    @property
    def grid(self) -> Tuple[Tuple[int, ...], str]:
        """Scales and pooling of its SDD loss, or a default one."""
        loss = self._loss()
        return loss.grid if loss else (SCALES, 'hierarchical')

    @property
    def consistency(self) -> str:
        """What its SDD loss, or a default one, calls a consistent cell."""
        loss = self._loss()
        return loss.consistency if loss else 'label'

    @property
    def sdd_losses(self) -> Dict[str, ScaleDecoupledLoss]:
        """Its SDD losses, by their names."""
        return {
            name: loss
            for name, loss in self.model.distiller.distill_losses.items()
            if isinstance(loss, ScaleDecoupledLoss)
        }

    def _loss(self) -> Optional[ScaleDecoupledLoss]:
        return self.sdd_losses.get(self.loss)

    @property
    def loads_files(self) -> bool:
        """Whether its images come from files, and so are BGR."""
        return loads_files(validation_of(self.cfg))

    def picture(self, inputs: Tensor) -> np.ndarray:
        """An image as its pipeline gives it, (H, W, 3), RGB.

        One of other values than bytes is stretched to 0 to 255.
        """
        if inputs.is_floating_point():
            least, most = inputs.aminmax()
            inputs = 255 * (inputs - least) / (most - least).clamp(min=1e-12)
        image = inputs.permute(1, 2, 0).byte().numpy()
        if image.shape[2] == 1:
            return image.repeat(3, axis=2)
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
        network = self.model.architecture
        if role == 'teacher':
            network = self.model.teacher
        recorders = getattr(self.model.distiller,
                            f'{role}_recorders').recorders
        recorder = next((recorder for recorder in recorders.values()
                         if isinstance(recorder, FeatureHeadRecorder)), None)
        if recorder is None:
            recorder = FeatureHeadRecorder()
            recorder.initialize(network)
        recorder.stop_at_map = False
        scales = check_scales(scales or own)
        found: List[Tuple[Tensor, ...]] = []
        with torch.no_grad():
            for batch in batches:
                data = self.model.data_preprocessor(batch)
                inputs = data['inputs']
                if role == 'teacher':  # as in training
                    inputs = self.model.teacher_images(inputs)
                with recorder:
                    logits = network(inputs)
                record, = recorder.data_buffer
                local = record.local_logits(scales, pooling)
                found.append((labels_of(data['data_samples']), logits,
                              local.argmax(dim=-1).T,
                              record.feature.flatten(2).mean(dim=2)))
        labels, logits, cells, features = (
            torch.cat(parts).float().cpu() for parts in zip(*found))
        return Outputs(labels.long(), logits,
                       cells.long().T, features, scales, pooling)


def load_run(checkpoint: str,
             config: Optional[str] = None,
             teacher_ckpt: Optional[str] = None,
             options: Optional[dict] = None,
             loss: Optional[str] = None) -> TrainedRun:
    """A distillation, from a checkpoint of it.

    Args:
        checkpoint (str): A checkpoint of the run.
        config (str, optional): Its config. Defaults to None: the one that the
            checkpoint holds.
        teacher_ckpt (str, optional): Where its teacher is now. Defaults to
            None: where the run had it.
        options (dict, optional): Settings of its config to override, as those
            of ``--cfg-options``. Defaults to None: none.
        loss (str, optional): Which of its SDD losses cells are looked at as
            by. Defaults to None: ``loss_sdd``, or the first by name.

    Raises:
        PreflightError: If it is no checkpoint of a distillation, if the
            teacher is another than the run had, or if it has no such loss.
        TeacherError: If the teacher's checkpoint is not where it was.

    Returns:
        TrainedRun: Its model, config and classes.
    """
    try:
        content = read_checkpoint(checkpoint)
        meta, weights = content['meta'], content['state_dict']
        text, trained_by = meta['cfg'], meta.get(META)
        cfg = None
        if config is None:
            cfg = named(Config.fromstring(text, '.py'))
    except Exception as error:  # a broken file may raise anything
        raise PreflightError(f'{checkpoint} is no checkpoint of a run: '
                             f'{type(error).__name__}: {error}') from error
    if config is not None:
        try:
            cfg = load_config(config)
        except Exception as error:  # a config file may do anything
            raise PreflightError(f'--config {config}: {type(error).__name__}: '
                                 f'{error}') from error
    check_options(cfg, options)
    cfg.merge_from_dict(options or {})
    if teacher_ckpt is not None:
        cfg.model.teacher_ckpt = teacher_ckpt
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(cfg.model, data_preprocessor=preprocessor_of(cfg)))
    if not isinstance(model, FrozenTeacherDistill):
        raise PreflightError(
            f'{checkpoint} is of a {type(model).__name__}, which has no '
            'teacher: name a checkpoint of a FrozenTeacherDistill')
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise PreflightError(f'{checkpoint} does not fit its config: '
                             f'{error}') from error
    model.load_teacher()
    if trained_by is not None and trained_by != model.teacher_hash:
        raise PreflightError(
            f'{checkpoint} was trained by the teacher of SHA-256 '
            f'{trained_by[:8]}, and model.teacher_ckpt {model.teacher_ckpt} '
            f'holds another, {model.teacher_hash[:8]}: name the right one by '
            '--teacher-ckpt')
    count = num_classes(model) or 0
    names = list((meta.get('dataset_meta') or {}).get('classes') or ())
    names = list(map(str, [*names, *range(len(names), count)]))
    run = TrainedRun(model.eval(), cfg, names, meta, loss)
    losses = sorted(
        run.sdd_losses, key=lambda name: (name != 'loss_sdd', name))
    if loss is not None and loss not in losses:
        raise PreflightError(f'--loss {loss}: the SDD losses of {checkpoint} '
                             f'are {", ".join(losses) or "none"}')
    return replace(run, loss=loss or next(iter(losses), None))


def validation_of(cfg: Config) -> dict:
    """The dataloader config of a run's validation, or of its test.

    Raises:
        PreflightError: If it has neither.
    """
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise PreflightError('the config of the run has neither a '
                             'val_dataloader nor a test_dataloader, whose '
                             'images this is about')
    return loader


def validation_loader(cfg: Config, count: Optional[int] = None) -> DataLoader:
    """A run's validation images, loaded by this process.

    Args:
        cfg (Config): The config of the run.
        count (int, optional): How many, from all over the data set, whose
            order may be by class. Defaults to None: all, in order.

    Raises:
        PreflightError: If there are none, or they are not where they were.
    """
    loader = dict(validation_of(cfg), num_workers=0)
    loader['sampler'] = dict(type='DefaultSampler', shuffle=False)
    loader.setdefault('collate_fn', dict(type='default_collate'))
    for key in ('persistent_workers', 'prefetch_factor'):
        loader.pop(key, None)
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            built = Runner.build_dataloader(loader)
    except Exception as error:  # data sets may do anything
        raise PreflightError(
            'the validation images cannot be loaded: '
            f'{type(error).__name__}: {error}. If they were moved, say where '
            'they are, as by --cfg-options val_dataloader.dataset.data_root='
            'PATH') from error
    return built if count is None else evenly_spaced(built, count)


def evenly_spaced(loader: DataLoader, count: int) -> DataLoader:
    """So many images from all over the data set of a loader."""
    size = len(loader.dataset)
    chosen = torch.linspace(0, size - 1, min(size, count)).round().long()
    return DataLoader(
        Subset(loader.dataset,
               chosen.unique().tolist()),
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn)


def labels_of(samples: list) -> Tensor:
    """The classes of data samples, (n,); of scores, the largest.

    Raises:
        PreflightError: If a sample has neither a label nor scores.
    """
    found = []
    for sample in samples:
        if 'gt_label' in sample:
            found.append(sample.gt_label.flatten()[:1])
        elif 'gt_score' in sample:
            found.append(sample.gt_score.argmax().view(1))
        else:
            raise PreflightError(
                'a validation sample has neither gt_label nor gt_score: '
                'val_dataloader.dataset must know the classes of its images')
    return torch.cat(found)
