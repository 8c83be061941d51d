# Copyright (c) sdd_mm contributors. All rights reserved.
import pytest
import torch
from mmpretrain.registry import MODELS

CIFAR, CUB, IMAGENET = (100, 32), (200, 224), (1000, 224)


# parameters with the head and map before pooling, as the literature has them
@pytest.mark.parametrize('backbone, data, parameters, shape', [
    (dict(type='CIFARResNet', depth=20), CIFAR, 278324, (64, 8, 8)),
    (dict(type='CIFARResNet', depth=32), CIFAR, 472756, (64, 8, 8)),
    (dict(type='CIFARResNet', depth=8, width=64,
          stem_channels=32), CIFAR, 1233540, (256, 8, 8)),
    (dict(type='CIFARResNet', depth=32, width=64,
          stem_channels=32), CIFAR, 7433860, (256, 8, 8)),
    (dict(type='CIFARVGG', depth=8), CIFAR, 3965028, (512, 4, 4)),
    (dict(type='CIFARVGG', depth=13), CIFAR, 9462180, (512, 4, 4)),
    (dict(type='CIFARVGG', depth=8), CUB, 4016328, (512, 28, 28)),
    (dict(type='CIFARVGG', depth=13), CUB, 9513480, (512, 28, 28)),
    (dict(type='MobileNetV1'), IMAGENET, 4231976, (1024, 7, 7)),
])
def test_parameters_and_map(backbone, data, parameters, shape):
    classes, size = data
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=classes,
                in_channels=shape[0])))
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.no_grad():
        feature = model.backbone(torch.randn(1, 3, size, size))[-1]
    assert feature.shape == (1, *shape)
    assert feature.min() == 0  # after ReLU


def test_unknown_depths_are_refused():
    with pytest.raises(ValueError, match='6 n'):
        MODELS.build(dict(type='CIFARResNet', depth=18))
    with pytest.raises(ValueError, match='depth must be one of'):
        MODELS.build(dict(type='CIFARVGG', depth=16))
