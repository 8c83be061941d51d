# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student that is laid out channels last."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn
from toy import PREPROCESSOR, batch, build, classifier, losses

from sdd_mm.models.algorithms.channels_last import SMALLEST, wrong_gradients

ROOT = Path(__file__).parents[3]
# the kernels of a processor without AVX-512
AVX2 = dict(os.environ, ONEDNN_MAX_CPU_ISA='AVX2', OMP_NUM_THREADS='2')
COMPARE = """
import ast, sys, torch
from torch import nn
for size, kwargs in ast.literal_eval(sys.stdin.read()):
    torch.manual_seed(0)
    plain = nn.Conv2d(**kwargs)
    last = nn.Conv2d(**kwargs).to(memory_format=torch.channels_last)
    last.load_state_dict(plain.state_dict())
    images = torch.randn(4, kwargs['in_channels'], *size)
    for conv, layout in ((plain, torch.contiguous_format),
                         (last, torch.channels_last)):
        conv(images.contiguous(memory_format=layout)).pow(2).sum().backward()
    scale = plain.weight.grad.abs().max()
    worst = (plain.weight.grad - last.weight.grad).abs().max() / scale
    if not worst < 1e-3:
        print(f'{kwargs} on {size}: {worst:.2g}')
"""


def wide(**kwargs):
    """A student without a layer that a CPU gets wrong."""
    return build(
        architecture=classifier(width=8),
        teacher=classifier(width=8, data_preprocessor=PREPROCESSOR),
        **kwargs)


def test_channels_last_differs_by_rounding_only():
    plain, other = wide(), wide(student_channels_last=True)
    images, layouts = batch()['inputs'].float(), []
    for role in ('student', 'teacher'):
        getattr(other, role).load_state_dict(getattr(plain, role).state_dict())
    for model in (plain, other):
        sum(losses(model).values()).backward()
        feature = model.student.extract_feat(images, stage='backbone')[-1]
        layouts.append(
            feature.is_contiguous(memory_format=torch.channels_last))
    assert layouts == [False, True]
    grads = {name: w.grad for name, w in other.student.named_parameters()}
    for name, weight in plain.student.named_parameters():
        torch.testing.assert_close(grads[name], weight.grad)


def test_channels_last_starts_from_the_same_weights():
    states = []
    for last in (False, True):
        torch.manual_seed(0)
        model = wide(student_channels_last=last)
        torch.manual_seed(0)
        model.init_weights()
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    weight = states[1]['architecture.backbone.conv1.weight']
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason='only CPU kernels are wrong')
def test_layers_that_a_cpu_gets_wrong_are_refused():
    with pytest.raises(
            ValueError,
            match=r'backbone\.\S*downsample\S* of the '
            'student ImageClassifier') as error:
        build(student_channels_last=True)
    assert 'model.student_channels_last' in str(error.value)


def test_every_layer_that_upstream_gets_wrong_is_known():
    script = ROOT / 'tests' / 'upstream' / 'channels_last_1x1.py'
    found = subprocess.run([sys.executable, script],
                           env=AVX2,
                           capture_output=True,
                           text=True,
                           timeout=120,
                           check=True).stdout.split()
    assert all(int(channels) < SMALLEST for channels in found)
    assert wrong_gradients(nn.Conv2d(SMALLEST - 1, 9, 1, stride=2))
    assert not wrong_gradients(nn.Conv2d(SMALLEST, 9, 1, stride=2))


def test_layers_of_shipped_networks_are_right_channels_last():
    """In a process of its own, whose kernels may never return."""
    layers = set()
    for path in sorted((ROOT / 'configs' / '_base_' / 'models').glob('*.py')):
        if 'imagenet' in path.name or 'cub200' in path.name:
            continue  # the CIFAR networks' layers on larger maps
        config = next(
            value for value in Config.fromfile(path).values()
            if isinstance(value, dict) and 'backbone' in value)
        layers |= _convolutions(CLASSIFIERS.build(config))
    assert len(layers) > 50
    found = subprocess.run([sys.executable, '-c', COMPARE],
                           input=repr([(size, dict(kwargs))
                                       for size, kwargs in sorted(layers)]),
                           env=AVX2,
                           capture_output=True,
                           text=True,
                           timeout=240,
                           check=True).stdout
    assert found == ''


def _convolutions(model):
    """The different convolutions of a network, with the size of their map."""
    found = set()

    def keep(layer, args):
        kwargs = {
            name: getattr(layer, name)
            for name in ('in_channels', 'out_channels', 'kernel_size',
                         'stride', 'padding', 'groups')
        }
        found.add((tuple(args[0].shape[2:]), tuple(kwargs.items())))

    assert not wrong_gradients(model)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(keep)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32), mode='tensor')
    return found
