# Copyright (c) sdd_mm contributors. All rights reserved.
"""timm's models with more than a linear layer behind their pooling."""
import commands
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmrazor.registry import TASK_UTILS
from test_configs import CONFIGS

from sdd_mm import make_config
from sdd_mm.config_builder import ConfigBuilderError
from sdd_mm.converters import ConversionError
from sdd_mm.converters.timm_classifier import convert_timm_file
from sdd_mm.converters.timm_region import timm_region_teacher

timm = pytest.importorskip('timm')
STUDENT = str(CONFIGS / 'demo/student.py')
SIZE = 96
# a norm; a convolution; one with a batch norm that has its activation inside;
# two layers; batch norm between convolution and activation
TAILS = {
    'convnext_atto': 2,
    'mobilenetv3_small_050': 3,
    'mobilenetv4_conv_small_035': 3,
    'inception_next_atto': 4,
    'hgnetv2_b0': 4,
}


def trained(name):
    """Its own network, whose statistics are not those of a new one."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    for key, value in model.named_buffers():
        if 'running' in key:
            value.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize('name', TAILS)
def test_cells_are_logits_of_regions(name):
    config, recorder = timm_region_teacher(name, 10)
    assert len(recorder['tail']) == TAILS[name]
    own = trained(name)
    config.pop('data_preprocessor')
    teacher = MODELS.build(dict(config, _scope_='mmpretrain')).eval()
    teacher.backbone.net.load_state_dict(own.state_dict())
    found = TASK_UTILS.build(
        dict(recorder, type='RegionHeadRecorder', _scope_='mmrazor'))
    found.initialize(teacher)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad(), found:
        teacher(images)
        wanted = own(images)
    record = found.get_record_data()
    scale = wanted.abs().max()
    assert (record.logits() - wanted).abs().max() < 1e-5 * scale
    cells = record.local_logits((1, 3), 'direct')
    assert (cells[0] - wanted).abs().max() < 1e-5 * scale
    # a cell is what the network says of a map that has its features alone
    feature = record.feature
    head = dict(own.named_modules())[recorder['pooling'].replace(
        'backbone.net.', '', 1)]
    cell = feature[:, :, 1:2, 2:3].expand_as(feature)
    hook = head.register_forward_pre_hook(lambda module, inputs: (cell, ))
    with torch.no_grad():
        alone = own(images)
    hook.remove()
    assert (cells[1 + 3 * 1 + 2] - alone).abs().max() < 1e-5 * scale


@pytest.mark.parametrize('name', ['convnext_atto', 'mobilenetv3_small_050'])
def test_a_config(name, tmp_path):
    given = dict(
        student=STUDENT,
        teacher=f'timm::{name}',
        method='sd-kd',
        teacher_size=SIZE,
        on_normalization_mismatch='convert')
    with pytest.raises(
            ConfigBuilderError,
            match='between .*so the tail is not .*RegionHead.*kd, dkd'):
        make_config(tmp_path / 'sd-kd.py', **given)
    torch.save(trained(name).state_dict(), tmp_path / 'timm.pth')
    convert_timm_file(name, str(tmp_path / 'timm.pth'),
                      str(tmp_path / 'teacher.pth'))
    path = make_config(
        tmp_path / 'sd-kd.py',
        teacher_ckpt=tmp_path / 'teacher.pth',
        teacher_recorder=dict(type='RegionHead'),
        **given)
    recorder = Config.fromfile(path).model.distiller.teacher_recorders
    assert len(recorder.feature_head.tail) == TAILS[name]
    done = commands.run(commands.ROOT / 'tools' / 'train.py', path, '--smoke',
                        2, '--work-dir', tmp_path / 'run')
    assert done.returncode == 0 and 'distill.loss_sdd' in done.stdout


@pytest.mark.parametrize('name, reason', [
    ('swin_tiny_patch4_window7_224', r'is not \(B, C, h, w\)'),
    ('dla34', 'a Conv2d, not one linear layer'),
])
def test_what_has_no_such_tail_is_refused(name, reason):
    with pytest.raises(ConversionError, match=reason):
        timm_region_teacher(name, 10)
