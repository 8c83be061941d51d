# Copyright (c) sdd_mm contributors. All rights reserved.
"""A training loop written by hand: the yardstick of a framework."""
import io
from typing import Iterator

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS
from mmrazor.registry import MODELS as RAZOR_MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sdd_mm import FeatureHead


class BareLoop:
    """Distillation in plain PyTorch, one step per call.

    The networks, the data set with its augmentation, the loss function, the
    optimizer and the clipping are the config's. There are no hooks, no
    recorders, no data samples and no optimizer wrapper.

    Args:
        cfg (Config): A distillation config for a ``Trainer``.
        device (str): The device it runs on.
    """

    def __init__(self, cfg: Config, device: str) -> None:
        model, pixels = cfg.model, cfg.data_preprocessor
        torch.manual_seed(0)
        self.student = MODELS.build(model.architecture).to(device).train()
        self.student.init_weights()
        self.teacher = MODELS.build(model.teacher).to(device).eval()
        self.teacher.requires_grad_(False)
        (loss, ) = model.distiller.distill_losses.values()
        self.loss = RAZOR_MODELS.build(dict(loss,
                                            _scope_='mmrazor')).to(device)
        self.student_loss_weight = model.student_loss_weight
        self.clip = cfg.optim_wrapper.clip_grad.max_norm
        settings = dict(cfg.optim_wrapper.optimizer)
        assert settings.pop('type') == 'SGD'
        self.optimizer = torch.optim.SGD(self.student.parameters(), **settings)
        self.mean, self.std = (
            torch.tensor(values, device=device).view(-1, 1, 1)
            for values in (pixels.mean, pixels.std))
        self.device = device
        loader = cfg.train_dataloader
        self.loader = DataLoader(
            DATASETS.build(loader.dataset),
            loader.batch_size,
            shuffle=True,
            collate_fn=_collate,
            pin_memory=loader.pin_memory)
        self.interval = cfg.default_hooks.logger.interval
        self.log = io.StringIO()
        self.batches = self._batches()
        self.count = 0

    def _batches(self) -> Iterator:
        while True:
            yield from self.loader

    def __call__(self) -> None:
        """One training iteration."""
        loss = self.compute(*next(self.batches))
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.clip)
        self.optimizer.step()
        self.count += 1
        if self.count % self.interval == 0:
            print(
                f'{self.count} loss {loss:.4f} norm {norm:.4f}', file=self.log)

    def compute(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch of uint8 images."""
        images = images.to(self.device, non_blocking=True).float()
        labels = labels.to(self.device, non_blocking=True)
        images = (images - self.mean) / self.std
        with torch.no_grad():
            teacher = _head(self.teacher, images)
        student = _head(self.student, images)
        logits = self.student.head.fc(student.feature.mean((2, 3)))
        return (self.student_loss_weight * F.cross_entropy(logits, labels) +
                self.loss(student, teacher, labels))


def _head(network: nn.Module, images: Tensor) -> FeatureHead:
    classifier = network.head.fc
    return FeatureHead(
        network.backbone(images)[-1], classifier.weight, classifier.bias)


def _collate(samples: list) -> tuple:
    return (torch.stack([sample['inputs'] for sample in samples]),
            torch.cat([sample['data_samples'].gt_label for sample in samples]))
