# Copyright (c) sdd_mm contributors. All rights reserved.
"""A step of any method in plain PyTorch: the yardstick of its overhead."""
import copy
from collections import OrderedDict
from typing import Any, Dict, List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdd_mm import FeatureHead
from sdd_mm.functional.rotated_views import VIEWS, rotated_views
from sdd_mm.models.algorithms import RotationDistill
from sdd_mm.models.algorithms.rotation_distill import black
from sdd_mm.models.losses.base import RecordLoss
from sdd_mm.models.recorders import StageMapsRecorder

from .trainers import Trainer

HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_forward_hooks_with_kwargs',
         '_forward_pre_hooks_with_kwargs')


class ByHand:
    """Distillation without recorders, data samples and optimizer wrapper.

    Networks, losses, connectors and settings are copies of a run's, and so is
    what is computed. Forward hooks keep the features that losses compare.

    Args:
        trainer (Trainer): The run.
        batch (dict): A batch on the device, after the data preprocessor.
    """

    def __init__(self, trainer: Trainer, batch: dict) -> None:
        run = trainer.model
        self.weight = run.student_loss_weight
        self.distiller = run.distiller
        self.networks = nn.ModuleDict(
            dict(
                student=_plain(run.architecture),
                teacher=_plain(run.teacher).eval()))
        self.losses = _plain(run.distiller.distill_losses)
        self.connectors = _plain(run.distiller.connectors)
        self.networks['student'].train()
        self.images = batch['inputs']
        samples = batch['data_samples']
        self.labels = torch.cat([one.gt_label for one in samples])
        self.index = torch.tensor([one.sample_idx for one in samples])
        self.fill = None
        if isinstance(run, RotationDistill):
            self.fill = black(run.data_preprocessor)
            self.padding = run.padding
        # what the hooks keep, by role, recorder and place
        self.kept: Dict[tuple, Dict[int, Any]] = {}
        for role, network in self.networks.items():
            recorders = getattr(run.distiller, f'{role}_recorders').recorders
            for name, recorder in recorders.items():
                self._listen(role, name, recorder, network)
        learned = [
            p for part in (self.networks['student'], self.losses,
                           self.connectors) for p in part.parameters()
            if p.requires_grad
        ]
        wrapper = trainer.runner.optim_wrapper
        self.clip = wrapper.clip_grad_kwargs
        self.learned = learned
        self.optimizer = torch.optim.SGD(
            learned, **{
                key: wrapper.optimizer.defaults[key]
                for key in ('lr', 'momentum', 'weight_decay')
            })

    def _listen(self, role: str, name: str, recorder,
                network: nn.Module) -> None:
        """Keep what a recorder would record."""
        modules = dict(network.named_modules())
        places: List[tuple] = []
        if isinstance(recorder, StageMapsRecorder):
            places = [tuple(place) for place in recorder._places]
        elif 'neck' in (getattr(recorder, '_source', '') or ''):
            before = 'Input' in type(recorder).__name__
            places = [(recorder._source, before)]
        kept = self.kept[role, name] = dict.fromkeys(range(len(places)))
        for index, (source, before) in enumerate(places):

            def keep(module, inputs, output=None, index=index, before=before):
                found = inputs[0] if before else output
                kept[index] = found[-1] if isinstance(found,
                                                      (list, tuple)) else found

            if before:
                modules[source].register_forward_pre_hook(keep)
            else:
                modules[source].register_forward_hook(keep)

    def __call__(self) -> None:
        """One training iteration."""
        loss = self.compute()
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.learned, **self.clip)
        self.optimizer.step()

    def compute(self) -> Tensor:
        """The loss of the batch."""
        images = self.images
        if self.fill is not None:
            images = rotated_views(images, self.fill, self.padding)
        with torch.no_grad():
            heads = dict(teacher=_head(self.networks['teacher'], images))
        student = self.networks['student']
        heads['student'] = _head(student, images)
        pooled = student.neck((heads['student'].feature, ))[-1]
        logits = student.head.fc(pooled)
        if self.fill is not None:
            logits = logits[::VIEWS]
        loss = self.weight * F.cross_entropy(logits, self.labels)
        for name, mapping in self.distiller.loss_forward_mappings.items():
            module = self.losses[name]
            if isinstance(module, RecordLoss):
                found = dict(heads, target=self.labels)
            else:
                found = {
                    key: self._find(**place)
                    for key, place in mapping.items()
                }
            loss = loss + module(**found)
        return loss

    def _find(self, recorder: str, from_student: bool, **place) -> Any:
        """The features that a mapping names."""
        if recorder == 'index':
            return self.index
        role = 'student' if from_student else 'teacher'
        values = list(self.kept[role, recorder].values())
        source = getattr(self.distiller,
                         f'{role}_recorders').recorders[recorder]
        if isinstance(source, StageMapsRecorder):
            if source.pooled:
                values[-1] = values[-1].flatten(1)
            found = values
            if 'data_idx' in place:
                found = values[place['data_idx']]
        else:
            found, = values
        if place.get('connector'):
            found = self.connectors[place['connector']](found)
        return found


def _plain(module: nn.Module) -> nn.Module:
    """A copy without the hooks of recorders and reports."""
    kept = []
    for one in module.modules():
        for name in HOOKS:
            kept.append((one, name, getattr(one, name)))
            setattr(one, name, OrderedDict())
    try:
        return copy.deepcopy(module)
    finally:
        for one, name, hooks in kept:
            setattr(one, name, hooks)


def _head(network: nn.Module, images: Tensor) -> FeatureHead:
    feature = network.backbone(images)[-1]
    if not torch.is_grad_enabled():  # the teacher's hooks hear the neck, too
        network.neck((feature, ))
    classifier = network.head.fc
    return FeatureHead(feature, classifier.weight, classifier.bias)
