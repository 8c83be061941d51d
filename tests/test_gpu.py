# Copyright (c) sdd_mm contributors. All rights reserved.
"""What only a GPU can show. `pytest -m gpu` runs it, with other such tests."""
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from baselines import BASELINES, distiller
from mmpretrain.registry import DATASETS
from test_functional.cases import LOSSES, case
from test_functional.test_oracle import CASES
from test_functional.test_oracle import LOSSES as RECORDED_LOSSES
from test_functional.test_oracle import RECORDED, SCALES, cells, inputs
from test_functional.test_precision import EXTREME, MODERATE
from toy import batch, build

from sdd_mm.functional import local_logits, scale_decoupled_loss
from sdd_mm.teacher_cache import TeacherCache

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[1]
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    """Convolutions and products without TF32, which keeps ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.mark.parametrize('dtype', TOLERANCES)
def test_recorded_values(dtype):
    for name in CASES:
        student, teacher, labels = inputs(name)
        student, teacher = student.to('cuda', dtype), teacher.to('cuda', dtype)
        if not (student.isfinite().all() and teacher.isfinite().all()):
            continue
        for grid in SCALES:
            for loss, function in RECORDED_LOSSES.items():
                actual = scale_decoupled_loss(
                    cells(student.cpu(), grid).cuda(),
                    cells(teacher.cpu(), grid).cuda(), labels.cuda(), function)
                with case(name=name, grid=grid, loss=loss):
                    assert actual.item() == pytest.approx(
                        RECORDED[f'{name}/{grid}/SD{loss}/f64/value'].item(),
                        rel=TOLERANCES[dtype])


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('classes', [3, 100, 1000, 21841])
def test_cells_and_losses_are_those_of_the_cpu(name, classes):
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(4, channels, 7, 7, generator=generator)
        for channels in (16, 32)
    ]
    weights = [
        torch.randn(classes, len(one[0]), generator=generator) for one in maps
    ]
    labels = torch.randint(classes, (4, ), generator=generator)
    found = []
    for device, dtype in (('cpu', torch.float64), ('cuda', torch.float32)):
        moved = [one.to(device, dtype) for one in (*maps, *weights)]
        moved[0].requires_grad_(), moved[2].requires_grad_()
        logits = [
            local_logits(*moved[side::2], scales=(1, 2, 4)) for side in (0, 1)
        ]
        loss = scale_decoupled_loss(*logits, labels.to(device),
                                    LOSSES[name].function)
        found.append([loss, *torch.autograd.grad(loss, (moved[0], moved[2]))])
    for wanted, actual in zip(*found):
        scale = wanted.abs().max()
        assert (actual.cpu().double() - wanted).abs().max() < 1e-4 * scale


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', LOSSES)
def test_half_precision_is_finite(name, dtype):
    rows = [MODERATE, *EXTREME.values()]
    for student in rows:
        for teacher in rows:
            logits = torch.tensor(student, device='cuda').to(dtype)
            logits.requires_grad_()
            loss = LOSSES[name].function(
                logits,
                torch.tensor(teacher, device='cuda').to(dtype),
                torch.tensor([1, 1], device='cuda')).sum()
            loss.backward()
            with case(student=student, teacher=teacher):
                assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize('name', BASELINES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_step_of_every_baseline(name, dtype):
    torch.manual_seed(0)
    model = build(distiller=distiller(name))
    model.init_weights()
    data = batch(4)
    for place, sample in enumerate(data['data_samples']):
        sample.set_field(place, 'sample_idx', field_type='metainfo')
    loss = model.distiller.distill_losses['loss_own']
    if hasattr(loss, 'set_labels'):
        loss.set_labels(torch.arange(24) % 4)
    found = {}
    for device in ('cpu', 'cuda'):
        model = model.to(device).train()
        model.zero_grad()
        ready = model.data_preprocessor(data, training=True)
        with torch.autocast(
                device, dtype=dtype, enabled=dtype != torch.float32):
            losses = model(**ready, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        found[device] = [losses['distill.loss_own'].detach().cpu().float()] + [
            parameter.grad.cpu().clone()  # the model moves to the GPU later
            for parameter in model.student.parameters()
            if parameter.grad is not None
        ]
        assert all(one.isfinite().all() for one in found[device])
    if name in ('mgd', 'crd') or dtype != torch.float32:  # they draw, or round
        return
    for wanted, actual in zip(found['cpu'], found['cuda'], strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('name', [None, 'crd', 'reviewkd'])
def test_a_compiled_student(name):
    own = {} if name is None else dict(distiller=distiller(name))
    torch.manual_seed(0)
    plain = build(**own)
    plain.init_weights()
    compiled = build(**own, compile_student=True)
    compiled.load_state_dict(plain.state_dict())
    compiled.teacher.load_state_dict(plain.teacher.state_dict())
    for model in (plain, compiled):
        if name == 'crd':
            model.distiller.distill_losses['loss_own'].set_labels(
                torch.arange(24) % 4)
    found = []
    for model in (plain.cuda().train(), compiled.cuda().train()):
        torch.manual_seed(1)
        data = batch(4)
        for place, sample in enumerate(data['data_samples']):
            sample.set_field(place, 'sample_idx', field_type='metainfo')
        ready = model.data_preprocessor(data, training=True)
        total, _ = model.parse_losses(model(**ready, mode='loss'))
        total.backward()
        found.append([total.detach()] +
                     [one.grad for one in model.student.parameters()])
    for wanted, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-2, atol=1e-3)


def scenes(device):
    return DATASETS.build(
        dict(
            type='InMemoryDataset',
            device=device,
            dataset=dict(
                type='DigitScenes',
                split='train',
                num_scenes=24,
                pipeline=[
                    dict(type='RandomCrop', crop_size=32, padding=1),
                    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
                    dict(type='PackInputs')
                ])))


def test_images_in_gpu_memory():
    host, device = scenes('cpu'), scenes('auto')
    assert device.device == 'cuda'
    assert device.fingerprint == host.fingerprint
    for view in range(host.num_views):
        ids = np.arange(24), np.full(24, view)
        wanted, found = host.batch(*ids), device.batch(*ids)
        assert found['inputs'].is_cuda
        assert torch.equal(found['inputs'].cpu(), wanted['inputs'])
        labels = [one['data_samples'][0].gt_label for one in (found, wanted)]
        assert torch.equal(labels[0].cpu(), labels[1])


@pytest.mark.parametrize('known', [0, 1, 5, 8])
def test_a_cached_teacher_is_the_live_one(known):
    """Whatever part of a batch is known: the rest is asked, padded."""
    torch.manual_seed(0)
    model = build(teacher_inference=dict(channels_last=True, fold_bn=True))
    model.init_weights()
    model.load_teacher()
    model.cuda().train()
    images, views = scenes('auto'), np.arange(8)
    data = model.data_preprocessor(images.batch(np.arange(8), views), True)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    live = model(**data, mode='loss')
    cache = TeacherCache(model, images)
    model.teacher_source = cache
    if known:
        first = images.batch(np.arange(known), views[:known])
        model(**model.data_preprocessor(first, True), mode='loss')
    model.load_state_dict(state)
    cached = model(**data, mode='loss')
    assert cache.store.count() == 8
    for name, loss in live.items():
        torch.testing.assert_close(cached[name], loss, rtol=2e-3, atol=1e-5)


def test_one_process_with_nccl(tmp_path):
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone',
        '--nproc_per_node=1', 'tools/train.py', 'configs/demo/sd-kd.py',
        '--launcher', 'pytorch', '--smoke', '4', '--work-dir',
        str(tmp_path), '--cfg-options', 'sync_bn=torch'
    ]
    run = partial(subprocess.run, cwd=ROOT, text=True)
    result = run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
    assert 'SMOKE RUN' in result.stdout
