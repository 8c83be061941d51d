# Copyright (c) sdd_mm contributors. All rights reserved.
import torch
from mmengine.dist import all_gather, all_reduce
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import contrastive_loss, contrastive_scores
from ...functional._tensors import full_precision, unit
from ...functional.contrastive import CHUNK
from .base import DistillLossError, WeightedLoss, check_channels


@MODELS.register_module()
class ContrastiveLoss(WeightedLoss):
    r"""Contrastive representation distillation (CRD, Tian et al., ICLR 2020).

    Both networks' pooled features are embedded by a learned linear layer, and
    each embedding is compared with the other network's memory: with that of
    its own image, and with those of images of other classes, which are drawn
    anew for every sample, without replacement, on the device. See
    :func:`sdd_mm.functional.contrastive_scores` and
    :func:`sdd_mm.functional.contrastive_loss`; the loss is the sum of both
    sides. After that the memories of the batch's images move towards their
    embeddings:

    .. math:: M_y \leftarrow normalize(\mu M_y + (1 - \mu)\, v)

    The constants Z are what the first batch gives. If an image occurs twice in
    a batch, its last embedding counts. Memories and Z are part of checkpoints,
    and the same in all processes.

    Args:
        student_channels (int): Channels of the student's pooled features.
        teacher_channels (int): Channels of the teacher's.
        num_data (int): Images in the training set.
        num_negatives (int): Images of other classes per sample, K. Defaults
            to 16384.
        dim (int): Size of the embeddings. Defaults to 128.
        temperature (float): Defaults to 0.07.
        momentum (float): The :math:`\mu` above. Defaults to 0.5.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        DistillLossError: If a class leaves fewer than ``num_negatives`` images
            of other classes, the labels of the training set are not known, or
            the features have other channels than these.

    Examples:
        >>> # in a config
        >>> distill_losses = dict(
        ...     loss_crd=dict(
        ...         type='ContrastiveLoss',
        ...         student_channels=256,
        ...         teacher_channels=256,
        ...         num_data=50000,
        ...         loss_weight=0.8))
        >>> pooled = dict(pooled=dict(type='ModuleOutputs', source='neck.gap'))
        >>> student_recorders = dict(index=dict(type='ImageIndex'), **pooled)
        >>> teacher_recorders = pooled
        >>> loss_forward_mappings = dict(
        ...     loss_crd=dict(
        ...         student=dict(recorder='pooled', from_student=True),
        ...         teacher=dict(recorder='pooled', from_student=False),
        ...         index=dict(recorder='index', from_student=True)))
        >>> custom_hooks = [dict(type='TrainingLabelsHook')]
    """

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 num_data: int,
                 num_negatives: int = 16384,
                 dim: int = 128,
                 temperature: float = 0.07,
                 momentum: float = 0.5,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.num_data = num_data
        self.num_negatives = num_negatives
        self.temperature = temperature
        self.momentum = momentum
        self.embed_student = nn.Linear(student_channels, dim)
        self.embed_teacher = nn.Linear(teacher_channels, dim)
        bound = (3 / dim)**0.5
        for side in ('student', 'teacher'):
            memory = torch.empty(num_data, dim).uniform_(-bound, bound)
            self.register_buffer(f'memory_{side}', memory)
        # of the student's and the teacher's scores; 0 before the first batch
        self.register_buffer('normalizers', torch.zeros(2))
        self.register_buffer(
            'labels',
            torch.full((num_data, ), -1, dtype=torch.long),
            persistent=False)
        self._knows_labels = False

    def set_labels(self, labels) -> None:
        """Tell which images are of one class.

        Args:
            labels (Sequence[int] | Tensor): Label of every training image, in
                the order of the data set, (num_data,).
        """
        labels = torch.as_tensor(labels)
        if labels.shape != self.labels.shape:
            raise DistillLossError(
                f'ContrastiveLoss was built for {self.num_data} training '
                f'images, but there are {labels.numel()} labels: set its '
                'num_data to the size of the training set')
        others = self.num_data - int(
            labels.unique(return_counts=True)[1].max())
        if others < self.num_negatives:
            raise DistillLossError(
                f'ContrastiveLoss needs {self.num_negatives} images of other '
                f'classes, but the largest class leaves {others}: set its '
                f'num_negatives to at most {others}')
        self.labels.copy_(labels)
        self._knows_labels = True

    def forward(self, student: Tensor, teacher: Tensor,
                index: Tensor) -> Tensor:
        """The weighted loss; it also updates the memories.

        Args:
            student (Tensor): The student's pooled features, (B, C) or
                (B, C, 1, 1).
            teacher (Tensor): The teacher's.
            index (Tensor): Integer place of every image in the training set,
                (B,).

        Returns:
            Tensor: A scalar.
        """
        check_channels(self, student, teacher)
        index = index.to(self.labels.device, non_blocking=True)
        negatives = self.draw_negatives(index)
        return self.weighted(self.contrast(student, teacher, index, negatives))

    def check_features(self, student: Tensor, teacher: Tensor,
                       index: Tensor) -> None:
        """Refuse features with other channels."""
        check_channels(self, student, teacher)

    def draw_negatives(self, index: Tensor) -> Tensor:
        """Images of other classes for every sample, (B, K)."""
        if not self._knows_labels:
            raise DistillLossError(
                'ContrastiveLoss does not know the labels of the training '
                'set: add dict(type=\'TrainingLabelsHook\') to custom_hooks')
        size = max(1, CHUNK // self.num_data)
        return torch.cat([self._draw(rows) for rows in index.split(size)])

    def _draw(self, index: Tensor) -> Tensor:
        # the largest of random numbers are a sample without replacement
        keys = torch.rand(len(index), self.num_data, device=index.device)
        same = self.labels[index, None] == self.labels
        keys.masked_fill_(same, -1)
        return keys.topk(self.num_negatives, sorted=False).indices

    @full_precision
    def contrast(self, student: Tensor, teacher: Tensor, index: Tensor,
                 negatives: Tensor) -> Tensor:
        """The loss of given negatives, (B, K), before its weights."""
        embeddings = [
            unit(self.embed_student(student.flatten(1))),
            unit(self.embed_teacher(teacher.detach().flatten(1)))
        ]
        memories = [self.memory_student, self.memory_teacher]
        rows = torch.cat([index[:, None], negatives], 1)
        # copies, which the backward pass reads after the memories have moved
        scores = [
            contrastive_scores(embedding, memory.clone(), rows,
                               self.temperature)
            for embedding, memory in zip(embeddings, memories[::-1])
        ]
        self._keep_normalizers(scores)
        loss = sum(
            contrastive_loss(side / z, self.num_data)
            for side, z in zip(scores, self.normalizers.clone()))
        index = torch.cat(all_gather(index))
        for memory, embedding in zip(memories, embeddings):
            self._move(memory, index, embedding.detach())
        return loss

    @torch.no_grad()
    def _keep_normalizers(self, scores) -> None:
        """Take the constants Z from the first batch."""
        found = self.num_data * torch.stack([side.mean() for side in scores])
        all_reduce(found, op='mean')
        unset = self.normalizers == 0
        self.normalizers.copy_(torch.where(unset, found, self.normalizers))

    @torch.no_grad()
    def _move(self, memory: Tensor, index: Tensor, embedding: Tensor) -> None:
        """Move the memories of a batch towards its embeddings."""
        embedding = torch.cat(all_gather(embedding))
        moved = unit(self.momentum * memory[index] +
                     (1 - self.momentum) * embedding)
        # an image's last row, wherever it occurs: the same value is written
        places = torch.arange(len(index), device=index.device)
        last = torch.where(index[:, None] == index, places, -1).amax(1)
        memory[index] = moved[last]
