# Copyright (c) sdd_mm contributors. All rights reserved.
"""The paper's other methods: which runs there are, and that they train."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from sdd_mm.models.losses.base import DistillLossError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'baselines'
TABLE_1 = ('res32x4_mbv2', 'wrn40-2_vgg8', 'wrn40-2_mbv2', 'res50_shuv1')
TABLE_2 = ('res32x4_shuv1', 'wrn40-2_shuv1', 'res50_mbv2', 'vgg13_mbv2',
           'res32x4_shuv2', 'res50_vgg8')
TABLE_4 = ('res32x4_mbv2', 'res32x4_shuv1', 'vgg13_mbv2', 'vgg13_vgg8',
           'res50_shuv1')
RUNS = [
    *(f'{method}_{pair}_cifar100' for pair in TABLE_1
      for method in ('fitnet', 'sp', 'crd', 'semckd', 'mgd', 'sskd',
                     'sd-sskd')),
    *(f'{method}_{pair}_cifar100' for pair in TABLE_2
      for method in ('fitnet', 'rkd', 'sp', 'pkt', 'crd', 'semckd', 'reviewkd',
                     'mgd')),
    *(f'{method}_{pair}_cub200' for pair in TABLE_4
      for method in ('sp', 'crd', 'semckd')),
    # stages that correspond, and maps of one size
    *(f'reviewkd_{pair}_cub200' for pair in TABLE_4[1:4]),
    *(f'mgd_{pair}_cub200' for pair in TABLE_4[3:]),
    # Tables 5 and 9
    *(f'{method}_res32x4_res8x4_cifar100' for method in ('crd', 'reviewkd')),
]
HEADS = [
    f'sskd-head_{name}_cifar100' for name in ('res32x4', 'wrn40-2', 'res50')
]
# each method, and each family of networks on each side
SOME = ('reviewkd_vgg13_mbv2_cifar100', 'semckd_wrn40-2_shuv1_cifar100',
        'crd_res32x4_shuv2_cifar100', 'mgd_wrn40-2_vgg8_cifar100',
        'sd-sskd_wrn40-2_vgg8_cifar100', 'sskd-head_wrn40-2_cifar100',
        'fitnet_res32x4_mbv2_cifar100', 'rkd_res32x4_shuv1_cifar100')
# parameters that are learnt, as published in
# Figure 1 of Zhao et al. (CVPR 2022), and of two linear layers
LEARNT = dict(
    reviewkd_res32x4_res8x4_cifar100=1.81e6, crd_res32x4_res8x4_cifar100=65792)
LOSS_WEIGHTS = dict(
    fitnet=dict(loss_hint=100.),
    rkd=dict(loss_rkd=1.),
    sp=dict(loss_sp=3000.),
    pkt=dict(loss_pkt=30000.),
    crd=dict(loss_crd=0.8),
    semckd=dict(loss_kd=1., loss_semckd=400.),
    mgd=dict(loss_mgd=7e-5))
LOSS_WEIGHTS['sskd'] = LOSS_WEIGHTS['sd-sskd'] = dict(
    loss_kd=0.9, loss_rotated=2.7, loss_relation=10.)


def parse(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(name):
    """The model with an untrained teacher, for few images of small size."""
    cfg = parse(name)
    model = cfg.model
    model.setdefault('data_preprocessor', cfg.data_preprocessor)
    if model.type != 'RotationHead':
        model.update(teacher_ckpt=None, allow_untrained_teacher=True)
        if 'cub200' in name and 'image_size' in model:
            model.image_size = 64
        losses = model.distiller.distill_losses
        losses.get('loss_semckd', {}).update(batch_size=4)
        losses.get('loss_crd', {}).update(num_data=40, num_negatives=20)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(model)
    for loss in getattr(
            getattr(built, 'distiller', None), 'distill_losses', {}).values():
        if hasattr(loss, 'set_labels'):
            loss.set_labels(torch.arange(40) % 4)
    return built, 64 if 'cub200' in name else 32


@pytest.mark.parametrize('method, pair', [
    ('reviewkd', f'{TABLE_1[1]}_cifar100'),
    ('mgd', f'{TABLE_4[0]}_cub200'),
    *(pytest.param('reviewkd', pair, marks=pytest.mark.long)
      for pair in (f'{TABLE_1[0]}_cifar100', f'{TABLE_1[2]}_cifar100',
                   f'{TABLE_1[3]}_cifar100', f'{TABLE_4[0]}_cub200',
                   f'{TABLE_4[4]}_cub200')),
    *(pytest.param('mgd', f'{pair}_cub200', marks=pytest.mark.long)
      for pair in TABLE_4[1:3]),
])
def test_what_the_paper_has_no_number_for_is_refused(method, pair, tmp_path):
    base = CONFIGS.parent / '_base_'
    path = tmp_path / 'run.py'
    path.write_text(
        f"_base_ = ['{base}/pairs/{pair}.py', '{base}/methods/{method}.py']\n"
        'model = _base_.method\nmodel.image_size = 64\n')
    cfg = Config.fromfile(path)
    model = cfg.model
    model.update(
        data_preprocessor=cfg.data_preprocessor,
        teacher_ckpt=None,
        allow_untrained_teacher=True)
    message = 'maps and the teacher has'
    if method == 'mgd':
        message = 'needs maps of one size'
        model.distiller.distill_losses.loss_mgd.match_sizes = False
    with pytest.raises(
            DistillLossError,
            match=message), DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(model)
        samples = [DataSample().set_gt_label(label) for label in range(2)]
        built(torch.randn(2, 3, 64, 64), samples, mode='loss')


def test_the_runs_are_those_of_the_papers_tables():
    assert (len(RUNS), len(HEADS)) == (98, 3)
    assert {path.stem for path in CONFIGS.glob('*.py')} == {*RUNS, *HEADS}
    for name in (*RUNS, *HEADS):
        lines = (CONFIGS / f'{name}.py').read_text().splitlines()
        assert 3 <= len(lines) <= 6, name


@pytest.mark.parametrize(
    'name',
    [(name if name in SOME else pytest.param(name, marks=pytest.mark.long))
     for name in (*RUNS, *HEADS)])
def test_a_run_takes_a_step_as_published(name):
    cfg, method = parse(name), name.split('_')[0]
    assert cfg.optim_wrapper.clip_grad is None
    if method != 'sskd-head':
        student = name.split('_')[2]
        slow = student in ('mbv2', 'shuv1', 'shuv2')
        assert cfg.optim_wrapper.optimizer.lr == (0.01 if slow else 0.05)
        weights = {
            key: loss.get('loss_weight', 1.)
            for key, loss in cfg.model.distiller.distill_losses.items()
        }
        assert weights == LOSS_WEIGHTS.get(method, weights)
        assert cfg.model.student_loss_weight == (0.1
                                                 if 'sskd' in method else 1.)
    torch.manual_seed(0)
    model, size = build(name)
    samples = [
        DataSample(metainfo=dict(sample_idx=3 * label)).set_gt_label(label)
        for label in range(4)
    ]
    model.train()
    losses = model(torch.randn(4, 3, size, size), samples, mode='loss')
    loss = sum(value for key, value in losses.items() if 'loss' in key)
    loss.backward()
    assert loss.isfinite()
    learnt = [
        parameter for key, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    assert learnt and all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in learnt)


@pytest.mark.parametrize('name', LEARNT)
def test_learnt_parts_are_as_large_as_published(name):
    model, _ = build(name)
    found = sum(p.numel() for p in model.distiller.parameters())
    assert found == pytest.approx(LEARNT[name], rel=0.005)
