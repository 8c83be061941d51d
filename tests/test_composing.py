# Copyright (c) sdd_mm contributors. All rights reserved.
"""SDD together with what else MMRazor, MMPretrain and MMEngine offer."""
import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmengine.utils import digit_version
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmrazor.models.losses import DKDLoss, KLDivergence
from mmrazor.registry import MODELS
from torch import nn
from torch.nn import functional as F
from toy import algorithm, batch, build, classifier, losses, sdd_loss

from sdd_mm.converters.student import student_weights
from sdd_mm.functional import (dkd_loss, kd_loss, local_logits,
                               scale_decoupled_loss)
from sdd_mm.models.recorders import FeatureHeadError

ROOT = Path(__file__).resolve().parents[1]
WIDEN = dict(
    type='ConvModuleConnector',
    in_channel=8,
    out_channel=16,
    norm_cfg=dict(type='BN'))
# one of MMRazor's losses of each kind, with the names of its arguments
BESIDE = {
    'features': (dict(type='L2Loss', normalize=False, div_element=True),
                 ('s_feature', 't_feature'), 'backbone.layer2', WIDEN),
    'channels': (dict(type='ChannelWiseDivergence', tau=2),
                 ('preds_S', 'preds_T'), 'backbone.layer2', WIDEN),
    'masked':
    (dict(type='MGDLoss'), ('preds_S', 'preds_T'), 'backbone.layer2',
     dict(type='MGDConnector', student_channels=8, teacher_channels=16)),
    'attention':
    (dict(type='ATLoss'), ('s_feature', 't_feature'), 'backbone.layer1', None),
    'logits':
    (dict(type='DISTLoss'), ('logits_S', 'logits_T'), 'head.fc', None),
}


def beside(name, **kwargs):
    """A distiller with SDD and another loss."""
    loss, (ours, theirs), source, connector = BESIDE[name]
    recorder = dict(type='ModuleOutputs', source=source)
    mapping = {
        ours: dict(recorder='other', from_student=True),
        theirs: dict(recorder='other', from_student=False)
    }
    config = dict(
        type='SDDDistiller',
        student_recorders=dict(other=recorder),
        teacher_recorders=dict(other=recorder),
        distill_losses=dict(loss_sdd=sdd_loss(), loss_other=loss),
        loss_forward_mappings=dict(loss_other=mapping),
        **kwargs)
    if connector:
        config['connectors'] = dict(other=connector)
        mapping[ours]['connector'] = 'other'
    return config


def gradients(model, data=None):
    """The losses of a step and the gradients of all that learns."""
    model.zero_grad()
    found = losses(model, data)
    sum(value for name, value in found.items() if 'loss' in name).backward()
    return {
        name: value.item()
        for name, value in found.items()
    }, {
        name: value.grad
        for name, value in model.named_parameters() if value.grad is not None
    }


@pytest.mark.parametrize('name', BESIDE)
def test_another_loss_beside_sdd(name):
    torch.manual_seed(0)
    model = build(distiller=beside(name))
    model.init_weights()
    alone = build()
    alone.load_state_dict(model.state_dict(), strict=False)
    alone.teacher.load_state_dict({
        name: value.clone()
        for name, value in nn.Module.state_dict(model.teacher).items()
    })
    (found, learnt), (before, _) = gradients(model), gradients(alone)
    # what is distilled beside it does not change SDD
    for loss in ('student.loss', 'distill.loss_sdd'):
        assert found[loss] == before[loss]
    assert found['distill.loss_other'] > 0
    assert not [name for name in learnt if 'teacher' in name]
    connectors = {
        name
        for name, _ in model.named_parameters() if 'connectors' in name
    }
    assert connectors <= set(learnt) and bool(connectors) == (
        BESIDE[name][-1] is not None)
    # it is trained and resumed, and is no part of the student
    assert connectors <= set(model.state_dict())
    student = student_weights(dict(state_dict=model.state_dict()), None)
    PRETRAIN_MODELS.build(classifier()).load_state_dict(student)


@pytest.mark.parametrize('name', BESIDE)
def test_a_loss_beside_sdd_of_a_student_that_is_channels_last(name):
    model = build(distiller=beside(name))
    model.init_weights()
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model.student.to(memory_format=layout)
        torch.manual_seed(0)  # MGDLoss draws its mask
        found.append(losses(model))
    for loss, value in found[0].items():
        torch.testing.assert_close(found[1][loss], value, rtol=1e-4, atol=1e-5)


def test_a_feature_loss_is_that_of_its_features():
    model = build(distiller=beside('features'))
    losses(model)  # the first forward pass is also checked, in another one
    seen = {}
    for role in ('student', 'teacher'):
        getattr(model, role).backbone.layer2.register_forward_hook(
            lambda module, args, output, role=role: seen.update({role: output}
                                                                ))
    found = losses(model)['distill.loss_other']
    widened = model.distiller.connectors['other'](seen['student'])
    torch.testing.assert_close(found, F.mse_loss(widened, seen['teacher']))


def test_the_documented_feature_loss(tmp_path):
    page = (ROOT / 'docs' / 'en' / 'migration.md').read_text()
    block = page.split('```python\ndistiller = ')[1].split('```')[0]
    log = demo(
        tmp_path,
        'beside',
        sd='kd',
        **{'model.distiller': dict(eval(block), _delete_=True)})
    assert {'distill.loss_sdd', 'distill.loss_middle'} <= set(log[0])
    state = torch.load(tmp_path / 'beside' / 'epoch_2.pth')['state_dict']
    assert 'distiller.connectors.wider.conv_module.conv.weight' in state


@pytest.mark.parametrize('tau', [1, 4])
def test_mmrazors_losses_are_ours(tau):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(8, 20, generator=generator)
                        for _ in range(2))
    target = torch.randint(20, (8, ), generator=generator)
    torch.testing.assert_close(
        kd_loss(student, teacher, tau).mean(),
        KLDivergence(tau=tau)(student, teacher))
    for beta in (0.5, 8.0):
        torch.testing.assert_close(
            dkd_loss(student, teacher, target, 1.0, beta, tau).mean(),
            DKDLoss(tau=tau, alpha=1.0, beta=beta)(student, teacher, target),
            rtol=1e-5,
            atol=1e-5)


@pytest.mark.parametrize('kind', ['neck', 'inside'])
def test_a_compiled_student_is_the_student(kind):
    distiller = {}
    if kind == 'inside':  # recorders within what is compiled
        distiller = dict(distiller=beside('features'))
        for role in ('student', 'teacher'):
            distiller['distiller'][f'{role}_recorders']['feature_head'] = dict(
                type='FeatureHead', feature='backbone.layer3')
    torch.manual_seed(0)
    plain = build(**distiller)
    plain.init_weights()
    compiled = build(**distiller, compile_student=dict(backend='eager'))
    state, teacher = (
        copy.deepcopy(one.state_dict()) for one in (plain, plain.teacher))
    assert list(compiled.state_dict()) == list(state)
    compiled.teacher.load_state_dict(teacher)
    for seed, samples in ((0, 4), (1, 4), (2, 3)):  # and a last, smaller batch
        data = batch(samples, seed=seed)
        for model in (plain, compiled):
            model.load_state_dict(state)
        wanted = gradients(plain, data)
        if kind == 'inside' and digit_version(
                torch.__version__) < digit_version('2.2'):
            with pytest.raises(FeatureHeadError, match='did not call'):
                gradients(compiled, data)
            return
        found = gradients(compiled, data)
        assert found[0] == pytest.approx(wanted[0], rel=1e-6)
        torch.testing.assert_close(found[1], wanted[1])
    ema = ExponentialMovingAverage(compiled).module.eval()
    images = batch()['inputs'].float()
    with torch.no_grad():
        torch.testing.assert_close(ema(images), compiled.eval()(images))


@pytest.mark.parametrize('given, message', [
    (1, 'must be True, False or a dict'),
    ('max-autotune', 'must be True, False or a dict'),
])
def test_compile_student_is_checked(given, message):
    with pytest.raises(ValueError, match=f'compile_student.*{message}'):
        build(compile_student=given)


@pytest.mark.long
def test_a_student_compiled_for_speed():
    torch.manual_seed(0)
    plain = build()
    plain.init_weights()
    compiled = build(compile_student=True)
    compiled.load_state_dict(plain.state_dict())
    compiled.teacher.load_state_dict(plain.teacher.state_dict())
    wanted, found = gradients(plain), gradients(compiled)
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-3, atol=1e-5)


def test_accumulated_gradients_are_those_of_all_batches():
    torch.manual_seed(0)
    model = build()
    model.init_weights()
    by_hand = copy.deepcopy(model)
    config = dict(optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2)
    wrapper = build_optim_wrapper(model, config)
    wrapper.initialize_count_status(model, 0, 2)
    before = copy.deepcopy(model.state_dict())
    total = {}
    for seed in range(2):
        data = batch(seed=seed)
        model.train_step(data, wrapper)
        for name, gradient in gradients(by_hand, data)[1].items():
            total[name] = total.get(name, 0) + gradient / 2
    for name, value in model.named_parameters():
        if name in total:
            torch.testing.assert_close(value.data,
                                       before[name] - 0.1 * total[name])


@pytest.mark.parametrize('kind', ['Mixup', 'CutMix'])
def test_mixed_images(kind):
    model = build(
        architecture=classifier(
            train_cfg=dict(augments=dict(type=kind, alpha=1.))),
        student_loss_weight=0.5)
    model.train()
    data = model.data_preprocessor(batch(), training=True)
    scores = torch.stack([one.gt_score for one in data['data_samples']])
    assert ((scores > 0) & (scores < 1)).any()
    found = model(**data, mode='loss')
    rows = []
    for network in (model.student, model.teacher):
        feature, = network.backbone(data['inputs'])
        rows.append(
            local_logits(feature, network.head.fc.weight,
                         network.head.fc.bias))
    wanted = scale_decoupled_loss(
        rows[0], rows[1].detach(), scores.argmax(dim=1),
        lambda student, teacher, target: kd_loss(student, teacher))
    torch.testing.assert_close(found['distill.loss_sdd'], wanted)
    logits = model.student.head.fc(
        model.student.backbone(data['inputs'])[0].mean(dim=(2, 3)))
    torch.testing.assert_close(
        found['student.loss'],
        0.5 * F.cross_entropy(logits, scores),
        rtol=1e-4,
        atol=1e-5)


def demo(tmp_path, name, sd='dkd', **options):
    """The log of a short run of the demo."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / f'sd-{sd}.py')
    teacher = tmp_path / 'teacher.pth'
    if not teacher.exists():
        torch.manual_seed(0)
        torch.save(MODELS.build(cfg.model.teacher).state_dict(), teacher)
    cfg.merge_from_dict({
        'work_dir': str(tmp_path / name),
        'model.teacher_ckpt': str(teacher),
        'train_dataloader.dataset.num_scenes': 128,
        'val_dataloader.dataset.num_scenes': 60,
        'default_hooks.logger.interval': 1,
        'train_cfg.max_epochs': 2,
        'param_scheduler': [],
        'optim_wrapper.optimizer.lr': 0.02,
        'experiment_name': f'composing_{name}',
        'randomness.seed': 0
    })
    cfg.merge_from_dict(options)
    Runner.from_cfg(cfg).train()
    lines = next((tmp_path / name).glob('*/vis_data/scalars.json'))
    rows = map(json.loads, lines.read_text().splitlines())
    return [{
        key: value
        for key, value in row.items() if 'time' not in key and key != 'memory'
    } for row in rows]


@pytest.mark.long
def test_mmengines_compile_key(tmp_path):
    """It compiles the train step; warm-up and report go on in it."""
    plain = demo(tmp_path, 'plain')
    compiled = demo(tmp_path, 'compiled', compile=dict(backend='eager'))
    assert len(compiled) == len(plain) == 6
    for found, wanted in zip(compiled, plain):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@pytest.mark.parametrize('name', BESIDE)
def test_mixed_precision_on_a_gpu(tmp_path, name, dtype):
    config = algorithm(
        distiller=beside(name),
        student_channels_last=True,
        compile_student=dict(backend='eager'))
    model = MODELS.build(config).cuda()
    model.init_weights()
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='DeferredAmpOptimWrapper',
            dtype=dtype,
            optimizer=dict(type='SGD', lr=0.01)))
    plain = losses(copy.deepcopy(model))
    with wrapper.optim_context(model):
        mixed = losses(model)
    for loss, value in plain.items():
        torch.testing.assert_close(
            mixed[loss].float(), value, rtol=0.1, atol=0.02)
    for _ in range(3):
        found = model.train_step(batch(), wrapper)
    assert all(torch.isfinite(value).all() for value in found.values())
