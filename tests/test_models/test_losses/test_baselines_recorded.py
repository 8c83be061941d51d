# Copyright (c) sdd_mm contributors. All rights reserved.
"""The baselines' modules against recorded outputs of their authors' code."""
import pytest
import torch
from mmrazor.registry import MODELS
from recorded import Case, assert_gradients, assert_recorded, cases
from test_functional.cases import case
from torch import nn


def build(recorded, names, **config):
    """A module in float64 with the recorded weights.

    ``names`` makes this package's name of a weight of the recorded one.
    """
    module = MODELS.build(config).double().train()
    weights = {
        names(name): weight
        for name, weight in recorded.below('param').items()
    }
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected and not {*missing} & {
        name
        for name, _ in module.named_parameters()
    }
    return module


def recorded_gradients(recorded, names):
    return {
        names(name): gradient
        for name, gradient in recorded.below('out/grad_param').items()
    }


def assert_buffers(module, recorded, names):
    """BatchNorms after the step."""
    found, expected = dict(
        module.named_buffers()), recorded.below('out/buffer_after')
    assert expected
    for name, buffer in expected.items():
        assert_recorded(found[names(name)].double(), buffer.double())


def as_it_is(name):
    return name


@pytest.mark.parametrize('name', cases('fitnet'))
def test_hints(name):
    recorded = Case(f'fitnet/{name}')
    student, = recorded.leaves('feature_s')
    teacher = recorded['in/feature_t']
    connector = build(
        recorded,
        as_it_is,
        type='ConvRegressor',
        student_shape=student.shape[1:],
        teacher_shape=teacher.shape[1:])
    loss = MODELS.build(dict(type='HintLoss', loss_weight=2.))
    regressed = connector(student)
    assert_recorded(regressed, recorded['out/regressed'])
    value = loss(regressed, teacher) / 2
    value.backward()
    assert_recorded(value, recorded['out/value'])
    assert_recorded(student.grad, recorded['out/grad_s'], 1e-6)
    assert_gradients(connector, recorded_gradients(recorded, as_it_is))
    assert_buffers(connector, recorded, as_it_is)


@pytest.mark.parametrize('method, kind', [('rkd', 'RelationalLoss'),
                                          ('sp', 'SimilarityLoss'),
                                          ('pkt', 'PKTLoss')])
def test_losses_without_weights(method, kind):
    for name in cases(method):
        recorded = Case(f'{method}/{name}')
        loss = MODELS.build(dict(type=kind, loss_weight=3.))
        loss.warmup.fill_(0.5)
        value = loss(recorded['in/feature_s'], recorded['in/feature_t'])
        with case(name=name):
            assert_recorded(value, 1.5 * recorded['out/value'])


@pytest.mark.parametrize('name', cases('mgd'))
def test_masked_generation(name, monkeypatch):
    recorded = Case(f'mgd/{name}')
    student, = recorded.leaves('feature_s')
    teacher = recorded['in/feature_t']
    loss = build(
        recorded,
        as_it_is,
        type='MaskedGenerationLoss',
        student_channels=student.shape[1],
        teacher_channels=teacher.shape[1],
        mask_ratio=recorded['in/lambda'].item(),
        loss_weight=recorded['in/alpha'].item())
    draw = recorded['in/uniform']
    monkeypatch.setattr(torch, 'rand', lambda *shape, **_: draw.view(shape))
    value = loss(student, teacher)
    value.backward()
    assert_recorded(value, recorded['out/value'])
    assert_recorded(student.grad, recorded['out/grad_s'], 1e-6)
    assert_gradients(loss, recorded_gradients(recorded, as_it_is))


def review_names(stages):
    """The release counts from the pooled features, this package to them."""
    layers = {'conv1': 'reduce', 'conv2': 'expand', 'att_conv.0': 'attend'}

    def names(name):
        stage, _, rest = name.partition('.')
        for theirs, ours in layers.items():
            rest = rest.replace(theirs, ours)
        return f'fusions.{stages - 1 - int(stage)}.{rest}'

    return names


@pytest.mark.parametrize('name', cases('reviewkd'))
def test_reviews(name):
    recorded = Case(f'reviewkd/{name}')
    count = len(recorded.features('s'))
    keys = [*(f'feature_s{i}' for i in range(count)), 'pooled_s']
    student = recorded.leaves(*keys)
    teacher = [*recorded.features('t'), recorded['in/pooled_t']]
    names = review_names(count + 1)
    loss = build(
        recorded,
        names,
        type='ReviewLoss',
        student_channels=[x.shape[1] for x in student],
        teacher_channels=[x.shape[1] for x in teacher])
    sizes = [x.shape[2:] if x.ndim == 4 else (1, 1) for x in teacher]
    for i, review in enumerate(loss.review(student, sizes)):
        assert_recorded(review, recorded[f'out/review{i}'])
    for layer in loss.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    value = loss(student, teacher)
    value.backward()
    assert_recorded(value, recorded['out/value'])
    for key, x in zip(keys, student):
        key = key.replace('feature_', '')
        assert_recorded(x.grad, recorded[f'out/grad_{key}'], 1e-6)
    assert_gradients(loss, recorded_gradients(recorded, names))
    assert_buffers(loss, recorded, names)


def calibration_names(name):
    kind, _, rest = name.partition('.')
    for theirs, ours in dict(
            query_weight='queries', key_weight='keys').items():
        if kind.startswith(theirs):
            rest = rest.replace('linear1', '0').replace('linear2', '2')
            return f'{ours}.{kind[len(theirs):]}.{rest}'
    i, j = kind[len('regressor'):]
    return f'regressors.{i}.{j}.{rest.removeprefix("regressor.")}'


@pytest.mark.parametrize('name', cases('semckd'))
def test_calibration(name):
    recorded = Case(f'semckd/{name}')
    keys = [f'feature_s{i}' for i in range(len(recorded.features('s')))]
    student, teacher = recorded.leaves(*keys), recorded.features('t')
    loss = build(
        recorded,
        calibration_names,
        type='SemanticCalibrationLoss',
        student_channels=[x.shape[1] for x in student],
        teacher_channels=[x.shape[1] for x in teacher],
        batch_size=len(teacher[0]))
    attention = loss.attention(student, teacher)
    assert_recorded(attention, recorded['out/attention'])
    assert torch.allclose(attention.sum(-1), torch.ones(()).double())
    value = loss(student, teacher)
    value.backward()
    assert_recorded(value, recorded['out/value'])
    for i, x in enumerate(student):
        assert_recorded(x.grad, recorded[f'out/grad_s{i}'], 1e-6)
    assert_gradients(loss, recorded_gradients(recorded, calibration_names))
    assert_buffers(loss, recorded, calibration_names)
    assert_recorded(loss.errors(student, teacher), recorded['out/pair_mse'])


def contrast_names(name):
    return name.replace('embed_s.linear',
                        'embed_student').replace('embed_t.linear',
                                                 'embed_teacher')


@pytest.mark.parametrize('name', cases('crd'))
def test_contrast_over_several_steps(name):
    recorded = Case(f'crd/{name}')
    weights = recorded.below('param')
    dim, channels = weights['embed_s.linear.weight'].shape
    loss = build(
        recorded,
        contrast_names,
        type='ContrastiveLoss',
        student_channels=channels,
        teacher_channels=weights['embed_t.linear.weight'].shape[1],
        num_data=recorded['in/n_data'].item(),
        num_negatives=recorded['in/negatives'].item(),
        dim=dim,
        temperature=recorded['in/temperature'].item(),
        momentum=recorded['in/momentum'].item())
    loss.memory_student.copy_(recorded['in/memory_s'])
    loss.memory_teacher.copy_(recorded['in/memory_t'])
    steps = [f'step{i}' for i in (1, 2, 3) if f'step{i}/out/value' in recorded]
    for step in steps:
        now = Case(f'crd/{name}/{step}')
        student, = now.leaves('feature_s')
        loss.zero_grad()
        rows = now['in/contrast_index']
        assert torch.equal(rows[:, 0], now['in/index'])
        value = loss.contrast(student, now['in/feature_t'], now['in/index'],
                              rows[:, 1:])
        value.backward()
        with case(step=step):
            assert_recorded(value, now['out/value'])
            assert_recorded(student.grad, now['out/grad_s'], 1e-6)
            assert_gradients(loss, recorded_gradients(now, contrast_names))
            for side, long in dict(s='student', t='teacher').items():
                assert_recorded(
                    getattr(loss, f'memory_{long}'), now[f'out/memory_{side}'])
            assert_recorded(loss.normalizers,
                            torch.stack([now['out/Z_s'], now['out/Z_t']]))
    assert len(steps) >= 2


def rotation_names(name):
    return name.replace('.proj_head', '_projection')


@pytest.mark.parametrize('name', cases('sskd'))
def test_rotations(name):
    recorded = Case(f'sskd/{name}')
    maps = recorded.leaves('map_s', 'map_t')
    student, teacher = (x.mean((2, 3)) for x in maps)
    loss = MODELS.build(
        dict(
            type='RotationRelationLoss',
            student_channels=student.shape[1],
            teacher_channels=teacher.shape[1],
            ratio=recorded['in/ratio_ss'].item())).double()
    weights = {
        rotation_names(name): weight
        for name, weight in recorded.below('param').items()
        if 'proj_head' in name
    }
    loss.load_state_dict(weights)
    value = loss(student, teacher)
    if recorded['step/out/tie_at_the_cut']:
        # which of equal ranks are kept is not defined
        assert value.isfinite()
        return
    assert_recorded(value, recorded['step/out/loss_ss'])
    value.backward()
    assert maps[1].grad is None
    # the relations are all that trains the projection, with weight 10
    gradients = {
        name.replace('proj_head', 'student_projection'): gradient / 10
        for name, gradient in recorded.below('step/out/grad_param').items()
        if 'proj_head' in name
    }
    assert_gradients(loss, gradients)
    assert all(p.grad is None for p in loss.teacher_projection.parameters())
