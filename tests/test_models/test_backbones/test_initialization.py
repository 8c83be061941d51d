# Copyright (c) sdd_mm contributors. All rights reserved.
"""The networks start as in the code that SDD's authors released.

The laws are read from that code (commit e412036) and written out here:
Kaiming normal, variance 2 / (kernel area * output channels); or what torch
gives a convolution or linear layer, uniform within 1 / sqrt(fan in).
"""
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import nn

CONFIGS = Path(__file__).resolve().parents[3] / 'configs/_base_'
KAIMING, TORCH, ZERO, NORMAL = 'kaiming', 'torch', 'zero', 'normal 0.01'
# family: weights of convolutions, weight and bias of the classifier
LAWS = {
    'resnet': (KAIMING, TORCH, TORCH),
    'wrn': (KAIMING, TORCH, ZERO),
    'vgg': (KAIMING, NORMAL, ZERO),
    'mobilenet-v2': (KAIMING, NORMAL, ZERO),
    'shufflenet': (TORCH, TORCH, TORCH),
    'mobilenet-v1': (TORCH, TORCH, TORCH),
}
SAMPLE = 20000  # values of a tensor that are compared with the law


def follows(values, law, weight):
    """Whether a tensor is a draw from a law; bounds of 6 standard errors."""
    values = values.detach().double().flatten()
    if law == ZERO:
        return bool((values == 0).all())
    std = {
        KAIMING: math.sqrt(2 / (weight[0, 0].numel() * weight.shape[0])),
        TORCH: 1 / math.sqrt(3 * weight[0].numel()),
        NORMAL: 0.01
    }[law]
    count, edge = values.numel(), math.sqrt(3) * std
    if abs(values.std() / std - 1) > 6 / math.sqrt(2 * count):
        return False
    if (values.abs().max() <= edge * (1 + 1e-6)) != (law == TORCH):
        return False  # a uniform law ends there, a normal law does not
    values = values[::math.ceil(count / SAMPLE)].sort().values
    if law == TORCH:
        expected = (values / edge + 1) / 2
    else:
        expected = (1 + torch.erf(values / std / math.sqrt(2))) / 2
    found = (torch.arange(len(values)) + 0.5) / len(values)
    # Kolmogorov and Smirnov: exceeded in 3 of 10^8 draws
    return bool((found - expected).abs().max() < 3 / math.sqrt(len(values)))


def departures(model, laws):
    """Tensors of a network that do not follow the laws of its family."""
    convolution, weight, bias = laws
    for name, module in model.named_modules():
        checks = []
        if isinstance(module, nn.Conv2d):
            checks = [('weight', convolution), ('bias', ZERO)]
        elif isinstance(module, nn.Linear):
            checks = [('weight', weight), ('bias', bias)]
        elif isinstance(module, nn.BatchNorm2d):
            if not ((module.weight == 1).all() and (module.bias == 0).all()):
                yield name
        else:
            assert not list(module.parameters(recurse=False)), name
        for tensor, law in checks:
            values = getattr(module, tensor)
            if values is not None and not follows(values, law, module.weight):
                yield f'{name}.{tensor}'


def start(config):
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model


def test_every_tensor_of_every_network_starts_as_released():
    wrong = []
    for path in sorted((CONFIGS / 'models').glob('*_[ci]*.py')):
        family = next(name for name in LAWS if path.stem.startswith(name))
        config, = Config.fromfile(path).values()
        wrong += [
            f'{path.stem}: {name}'
            for name in departures(start(config), LAWS[family])
        ]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('laws', [
    (TORCH, TORCH, TORCH),
    (KAIMING, NORMAL, TORCH),
    (KAIMING, TORCH, ZERO),
])
def test_another_law_is_noticed(laws):
    config = Config.fromfile(CONFIGS / 'models/resnet8x4_cifar100.py')
    model = start(config.resnet8x4)
    assert not list(departures(model, LAWS['resnet']))
    assert list(departures(model, laws))


def test_a_student_that_is_taught_starts_as_it_does_alone():
    cfg = Config.fromfile(CONFIGS / 'pairs/res32x4_shuv1_cifar100.py')
    cfg.model.update(
        teacher_ckpt=None,
        allow_untrained_teacher=True,
        data_preprocessor=cfg.data_preprocessor,
        distiller=dict(type='SDDDistiller', distill_losses=dict()))
    student = start(cfg.model).architecture
    assert not list(departures(student, LAWS['shufflenet']))


def test_an_init_cfg_of_the_user_is_obeyed():
    for name in ('CIFARMobileNetV2', 'CIFARShuffleNetV1', 'CIFARShuffleNetV2',
                 'MobileNetV1'):
        model = start(
            dict(
                type=name,
                init_cfg=dict(type='Constant', layer='Conv2d', val=0.5)))
        for key, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                assert (module.weight == 0.5).all(), (name, key)
