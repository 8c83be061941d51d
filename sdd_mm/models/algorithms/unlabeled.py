# Copyright (c) sdd_mm contributors. All rights reserved.
"""Images without labels: what the student learns from the teacher alone."""
from typing import Dict, List, Optional, Sequence

from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from ...errors import SDDError
from ...structures import DataSampleBatch
from ..data_preprocessor import AsyncClsDataPreprocessor
from ..distillers import SDDDistiller
from ..losses.base import RecordLoss


class UnlabeledError(SDDError, ValueError):
    """Images without labels where something needs them."""


def labeled(samples: Optional[Sequence]) -> Optional[List[int]]:
    """The places of the samples that have a label; None if all have one."""
    if not samples or isinstance(samples[0], DataSampleBatch):
        return None
    found = [
        place for place, sample in enumerate(samples)
        if 'gt_label' in sample or 'gt_score' in sample
    ]
    return None if len(found) == len(samples) else found


def check_unlabeled(distiller: SDDDistiller, student: nn.Module,
                    preprocessor: nn.Module) -> None:
    """Refuse what would need labels that some images do not have.

    Args:
        distiller (SDDDistiller): The distiller.
        student (nn.Module): The student.
        preprocessor (nn.Module): The student's data preprocessor.

    Raises:
        UnlabeledError: If a loss, the student's head or a batch augmentation
            needs the label of every image.
    """
    for name, loss in distiller.distill_losses.items():
        key = f'model.distiller.distill_losses.{name}'
        if hasattr(loss, 'set_labels'):
            raise UnlabeledError(
                f'{key} ({type(loss).__name__}) needs the label of every '
                'training image: remove it, or label the images')
        if isinstance(loss, RecordLoss) and loss.needs_labels:
            raise UnlabeledError(
                f'{key} ({type(loss).__name__}) needs the label of every '
                f'image: {loss.without_labels}, or set its '
                "unlabeled_target='teacher', which takes the teacher's "
                'verdict for the label')
    head = getattr(student, 'head', None)
    if not isinstance(head, ClsHead) or type(head).loss is not ClsHead.loss:
        raise UnlabeledError(
            f'model.allow_unlabeled: the loss of the head '
            f'{type(head).__name__} of the student {type(student).__name__} '
            'cannot be taken of some images only: choose a student with a '
            'ClsHead')
    if not isinstance(preprocessor, AsyncClsDataPreprocessor):
        raise UnlabeledError(
            f'model.allow_unlabeled: a {type(preprocessor).__name__} takes '
            'labels of all images, or of none: remove type from '
            'data_preprocessor')
    if getattr(preprocessor, 'batch_augments', None) is not None:
        raise UnlabeledError(
            'model.allow_unlabeled: batch augmentations (Mixup, CutMix) mix '
            'labels, which some images do not have: set '
            'model.architecture.train_cfg=None, and remove batch_augments '
            'from data_preprocessor if it is there')


def losses_of_labeled(student: nn.Module, inputs: Tensor, samples: list,
                      places: List[int]) -> Dict[str, Tensor]:
    """The student's own losses, of the images that have labels.

    All images run through the student, which the distillation compares.

    Args:
        student (nn.Module): A student that :func:`check_unlabeled` passes.
        inputs (Tensor): Images, (B, C, H, W).
        samples (list[DataSample]): Their data samples.
        places (list[int]): Places of those with a label.

    Returns:
        dict[str, Tensor]: As ``student.loss()`` of these images; a loss of 0
        if there are none.
    """
    logits = student(inputs, samples, mode='tensor')
    if not places:
        return dict(loss=logits.sum() * 0)
    return student.head._get_loss(logits[places],
                                  [samples[place] for place in places])
