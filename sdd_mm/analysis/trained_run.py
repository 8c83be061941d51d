# Copyright (c) sdd_mm contributors. All rights reserved.
"""A trained distillation, and the outputs of its two networks."""
from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS
from torch import Tensor

from ..config_file import run_config
from ..engine.config_keys import check_options
from ..engine.errors import PreflightError
from ..functional.local_logits import check_scales
from ..images import loads_files, preprocessor_of
from ..models.algorithms import TEACHER_META, FrozenTeacherDistill
from ..models.losses import ScaleDecoupledLoss
from ..models.networks import is_recognizer, members_of
from ..models.recorders import EnsembleRecorder, FeatureHeadRecorder
from ..structures import student_part
from ..weights import WeightsError, read_checkpoint
from .outputs import Outputs
from .validation import labels_of, validation_of

GRID = ((1, 2, 4), 'hierarchical')


@dataclass(frozen=True)
class TrainedRun:
    """A distillation as it was trained.

    Args:
        model (FrozenTeacherDistill): In eval mode, with its teacher.
        cfg (Config): Its config.
        names (list[str]): The names of its classes.
        meta (dict): The meta of its checkpoint, such as ``epoch``.
        loss (str, optional): Name of the SDD loss whose cells are analyzed;
            None if the run has no SDD loss.
    """
    model: FrozenTeacherDistill
    cfg: Config
    names: List[str]
    meta: dict
    loss: Optional[str]

    @property
    def grid(self) -> Tuple[Tuple[int, ...], str]:
        """Scales and pooling of its SDD loss, or the default ones."""
        loss = self.sdd_losses.get(self.loss)
        return loss.grid if loss else GRID

    @property
    def consistency(self) -> str:
        """The rule for consistent cells of its SDD loss, or the default."""
        loss = self.sdd_losses.get(self.loss)
        return loss.consistency if loss else 'label'

    @property
    def sdd_losses(self) -> Dict[str, ScaleDecoupledLoss]:
        """Its SDD losses by their names."""
        return {
            name: loss
            for name, loss in self.model.distiller.distill_losses.items()
            if isinstance(loss, ScaleDecoupledLoss)
        }

    @property
    def loads_files(self) -> bool:
        """Whether its images come from files and therefore are BGR."""
        return loads_files(validation_of(self.cfg))

    def picture(self, inputs: Tensor) -> np.ndarray:
        """An image for the eye.

        Args:
            inputs (Tensor): An image as the pipeline gives it, (C, H, W).
                Values other than bytes are stretched to 0 to 255.

        Returns:
            np.ndarray: Bytes, (H, W, 3), RGB.
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
        """Run the teacher or the student on batches.

        Args:
            role (str): 'teacher' or 'student'.
            batches (Iterable): Batches of a dataloader.
            scales (Sequence[int], optional): The scale set M. Defaults to
                None: that of the run's SDD loss.

        Returns:
            Outputs: The outputs for all images, on the CPU.
        """
        own, pooling = self.grid
        scales = check_scales(scales or own)
        network = self.model.architecture
        if role == 'teacher':
            network = self.model.teacher
        recorders = getattr(self.model.distiller,
                            f'{role}_recorders').recorders
        recorder = next(
            (recorder for recorder in recorders.values()
             if isinstance(recorder, (FeatureHeadRecorder, EnsembleRecorder))),
            None)
        if recorder is None:
            several = len(members_of(network)) > 1
            recorder = EnsembleRecorder() if several else FeatureHeadRecorder()
            recorder.initialize(network)
        recorder.stop_at_map = False
        found: List[Tuple[Tensor, ...]] = []
        with torch.no_grad():
            for batch in batches:
                data = self.model.data_preprocessor(batch)
                inputs = data['inputs']
                inputs = (self.model.teacher_images(inputs)
                          if role == 'teacher' else student_part(inputs)
                          )  # as in training
                with recorder:
                    logits = network(inputs)
                record, = recorder.data_buffer
                local = record.local_logits(scales, pooling)
                cells = local.argmax(dim=-1)
                shares = local.float().softmax(dim=-1).amax(dim=-1)
                found.append((labels_of(data['data_samples']), logits, cells.T,
                              shares.T, record.pooled))
        labels, logits, cells, shares, features = (
            torch.cat(parts).float().cpu() for parts in zip(*found))
        return Outputs(labels.long(), logits,
                       cells.long().T, shares.T, features, scales, pooling)


def load_run(checkpoint: str,
             config: Optional[str] = None,
             teacher_ckpt: Optional[str] = None,
             options: Optional[dict] = None,
             loss: Optional[str] = None) -> TrainedRun:
    """Load a distillation from one of its checkpoints.

    Args:
        checkpoint (str): A checkpoint of the run.
        config (str, optional): Its config. Defaults to None: the one in the
            checkpoint.
        teacher_ckpt (str, optional): The current path of its teacher's
            checkpoint. Defaults to None: the path in the config.
        options (dict, optional): Settings of its config to override, as
            ``--cfg-options`` does. Defaults to None: none.
        loss (str, optional): Name of the SDD loss whose cells are analyzed.
            Defaults to None: ``loss_sdd``, or the first by name.

    Returns:
        TrainedRun: The run with its model, config and classes.

    Raises:
        PreflightError: If this is not a checkpoint of a distillation, if the
            teacher is not the one of the run, or if there is no such loss.
        TeacherError: If the teacher's checkpoint cannot be loaded.
    """
    try:
        content = read_checkpoint(checkpoint)
        meta = content['meta']
        cfg = run_config(meta, config)
    except WeightsError as error:
        raise PreflightError(str(error)) from error
    except ValueError as error:
        raise PreflightError(f'{checkpoint}: {error}') from error
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
            'teacher: pass a checkpoint of a FrozenTeacherDistill')
    if is_recognizer(model.student):
        raise PreflightError(
            f'{checkpoint} is of a {type(model.student).__name__}: figures '
            'and reports are of images, not of clips')
    try:
        model.load_state_dict(content['state_dict'])
    except RuntimeError as error:
        raise PreflightError(f'{checkpoint} does not fit its config: '
                             f'{error}') from error
    model.load_teacher()
    trained_with = meta.get(TEACHER_META)
    if trained_with is not None and trained_with != model.teacher_hash:
        raise PreflightError(
            f'{checkpoint} was trained by the teacher with SHA-256 '
            f'{trained_with[:8]}, but model.teacher_ckpt {model.teacher_ckpt} '
            f'holds another one, {model.teacher_hash[:8]}: pass the right one '
            'with --teacher-ckpt')
    count = getattr(getattr(model.student, 'head', None), 'num_classes', 0)
    names = list((meta.get('dataset_meta') or {}).get('classes') or ())
    names = list(map(str, [*names, *range(len(names), count)]))
    run = TrainedRun(model.eval(), cfg, names, meta, loss)
    losses = sorted(
        run.sdd_losses, key=lambda name: (name != 'loss_sdd', name))
    if loss is not None and loss not in losses:
        raise PreflightError(f'--loss {loss}: the SDD losses of {checkpoint} '
                             f'are {", ".join(losses) or "none"}')
    return replace(run, loss=loss or next(iter(losses), None))
