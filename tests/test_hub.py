# Copyright (c) sdd_mm contributors. All rights reserved.
"""Networks by their names."""
import numpy as np
import pytest
import torch
from mmpretrain import get_model, inference_model, list_models

import sdd_mm


@pytest.fixture(scope='module')
def names():
    return sdd_mm.register_models()


@pytest.mark.parametrize('name, network, classes', [
    ('res8x4_cifar100', 'CIFARResNet', 100),
    ('sd-kd_res32x4_res8x4_cifar100', 'CIFARResNet', 100),
    ('nkd_vgg13_mbv2_cub200', 'CIFARMobileNetV2', 200),
])
def test_networks_by_name(names, name, network, classes):
    assert name in names and name in list_models('*_c*')
    model = get_model(name)
    assert type(model).__name__ == 'ImageClassifier'
    assert type(model.backbone).__name__ == network
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, classes)
    image = np.zeros((64, 64, 3), np.uint8)
    assert len(inference_model(model, image)['pred_scores']) == classes


def test_mmpretrains_own_are_there(names):
    assert sdd_mm.register_models() == names and len(names) > 150
    assert 'resnet50_8xb32_in1k' in list_models('resnet50*')
    assert not {'teacher', 'student', 'kd'} & set(list_models())
