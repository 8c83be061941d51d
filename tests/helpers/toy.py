# Copyright (c) sdd_mm contributors. All rights reserved.
"""Small real models and batches that several tests use."""
import copy

import pytest
import torch
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

PREPROCESSOR = dict(
    num_classes=10, mean=[128.0] * 3, std=[64.0] * 3, to_rgb=False)


def classifier(width=4, num_classes=10, **kwargs):
    """Config of a small three-stage ResNet, 8 x 8 maps on 32 x 32 images."""
    config = dict(
        type='ImageClassifier',
        backbone=dict(
            type='CIFARResNet', depth=8, width=width, stem_channels=width),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=num_classes,
            in_channels=4 * width,
            loss=dict(type='CrossEntropyLoss')))
    config.update(kwargs)
    return config


def build_classifier(**kwargs):
    """A small classifier."""
    # a copy: MMPretrain writes into the config of a data preprocessor
    return PRETRAIN_MODELS.build(copy.deepcopy(classifier(**kwargs)))


def sdd_loss(criterion='KDCriterion', **kwargs):
    """Config of an SDD loss."""
    return dict(
        type='ScaleDecoupledLoss', criterion=dict(type=criterion), **kwargs)


def algorithm(**kwargs):
    """Config of a frozen teacher with a small student."""
    config = dict(
        type='FrozenTeacherDistill',
        _scope_='mmrazor',
        architecture=classifier(),
        teacher=classifier(width=8, data_preprocessor=PREPROCESSOR),
        allow_untrained_teacher=True,
        data_preprocessor=PREPROCESSOR,
        distiller=dict(
            type='SDDDistiller', distill_losses=dict(loss_sdd=sdd_loss())))
    config.update(kwargs)
    return config


def build(**kwargs):
    """A frozen teacher with a small student."""
    return MODELS.build(algorithm(**kwargs))


def batch(samples=4, num_classes=10, seed=0, size=32):
    """Images of bytes and labeled data samples, as a dataloader gives."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        256, (samples, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(num_classes, (samples, ), generator=generator)
    return dict(
        inputs=images,
        data_samples=[DataSample().set_gt_label(label) for label in labels])


def losses(model, data=None):
    """The losses of one training forward."""
    model.train()
    data = model.data_preprocessor(data or batch(), training=True)
    return model(**data, mode='loss')


def skip_without_autocast(dtype):
    """torch < 2.3 has no float16 autocast on CPU."""
    try:
        with torch.autocast('cpu', dtype=dtype):
            found = (torch.zeros(1, 1) @ torch.zeros(1, 1)).dtype
    except RuntimeError:
        found = None
    if found != dtype:
        pytest.skip(f'this torch has no {dtype} autocast on CPU')
