# Copyright (c) sdd_mm contributors. All rights reserved.
"""ReviewKD's shallowest fusion without its fused map, beside the plain one."""
import copy

import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn

from sdd_mm.models.losses import review_loss

CHANNELS, THEIRS = (3, 8, 8), (5, 6, 7)
SIZES = ((8, 12), (4, 6))


def build(channels=CHANNELS, dtype=torch.float64):
    torch.manual_seed(0)
    loss = MODELS.build(
        dict(
            type='ReviewLoss',
            student_channels=channels,
            teacher_channels=THEIRS)).to(dtype)
    for module in loss.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return loss


def features(sizes=SIZES, channels=CHANNELS, batch=19, dtype=torch.float64):
    """Three chunks of samples, whose means are far from zero."""
    torch.manual_seed(1)
    shapes = *sizes, None

    def maps(channels, offset):
        return [
            offset + torch.randn(batch, count, *(size or ()), dtype=dtype)
            for count, size in zip(channels, shapes)
        ]

    return maps(channels, 2.), maps(THEIRS, 0.)


@pytest.fixture
def fast(monkeypatch):
    """Counts the fusions without a map; ``fast.off`` leaves none."""

    class Fast:
        calls, off = 0, False

    def count(*args):
        Fast.calls += 1
        convolved = fuse(*args)
        # or the next batch norm loses precision
        assert convolved.is_contiguous()
        return convolved

    def can(*args):
        return not Fast.off and possible(*args)

    fuse, possible = review_loss.fuse_and_convolve, review_loss.can_factorize
    monkeypatch.setattr(review_loss, 'fuse_and_convolve', count)
    monkeypatch.setattr(review_loss, 'can_factorize', can)
    return Fast


def step(loss, student, teacher):
    """The reviewed maps, the value, all gradients and buffers of a step."""
    student = [x.clone().requires_grad_() for x in student]
    sizes = [(*x.shape[2:], ) or (1, 1) for x in teacher]
    found = dict(enumerate(loss.review(student, sizes)))
    found['value'] = loss(student, teacher)
    # a weight for every position, or the gradients would nearly vanish
    weighed = sum(
        (x * torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x).sin()
         ).sum() for x in list(found.values())[:len(student)])
    parts = dict(loss.named_parameters())
    for name, part in (('value', found['value']), ('maps', weighed)):
        gradients = torch.autograd.grad(part, [*student, *parts.values()])
        for key, gradient in zip([*range(len(student)), *parts], gradients):
            found[f'{name}: gradient of {key}'] = gradient
    found.update((key, x.clone()) for key, x in loss.named_buffers())
    return found


def assert_same(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        difference = (found[key] - value).abs().max()
        assert difference <= tolerance * value.abs().max(), key


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('sizes', [SIZES, ((2, 2), (1, 1)), ((6, 2), (3, 1))])
def test_the_same_as_with_the_map(fast, training, sizes):
    loss = build().train(training)
    other, inputs = copy.deepcopy(loss), features(sizes)
    results = []
    for module, fast.off in ((loss, False), (other, True)):
        fast.calls = 0
        results.append([step(module, *inputs) for _ in range(2)])
        assert fast.calls == (0 if fast.off else 4)
    for found, expected in zip(*results):
        assert_same(found, expected, 1e-9)
    assert loss.fusions[0].reduce[1].num_batches_tracked == 4 * training


def test_nearly_the_same_in_float32(fast):
    loss, inputs = build(dtype=torch.float32), features(dtype=torch.float32)
    other = copy.deepcopy(loss)
    found = step(loss, *inputs)
    fast.off = True
    assert_same(found, step(other, *inputs), 2e-5)


def test_a_frozen_norm(fast):
    loss, inputs = build(), features()
    norm = loss.fusions[0].reduce[1].eval().requires_grad_(False)
    before = norm.running_mean.clone()
    values = []
    for fast.off in (False, True):
        values.append(loss(*inputs))
    assert fast.calls == 1 and torch.equal(norm.running_mean, before)
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)


def test_channels_that_do_not_vary(fast):
    loss, (student,
           teacher) = build(dtype=torch.float32), features(dtype=torch.float32)
    student[0] = torch.full_like(student[0], 1e4).requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert fast.calls == 1 and value.isfinite()
    assert student[0].grad.isfinite().all()


@pytest.mark.parametrize('sizes', [((9, 12), (4, 6)), ((9, 13), (5, 7)),
                                   ((12, 18), (4, 6)), ((4, 6), (4, 6)),
                                   ((4, 12), (4, 6))])
def test_other_factors_take_the_map(fast, sizes):
    build()(*features(sizes))
    assert fast.calls == 0


def test_a_teacher_of_another_size_takes_the_map(fast):
    student, teacher = features()
    teacher[0] = teacher[0][..., :6, :]
    build()(student, teacher)
    assert fast.calls == 0


@pytest.mark.parametrize('first, calls', [(7, 1), (8, 0), (9, 0)])
def test_as_many_channels_take_the_map(fast, first, calls):
    channels = first, *CHANNELS[1:]
    value = build(channels)(*features(channels=channels))
    assert value.isfinite() and fast.calls == calls


@pytest.mark.parametrize(
    'norm', [
        lambda: nn.SyncBatchNorm(8),
        lambda: nn.InstanceNorm2d(8),
        lambda: nn.BatchNorm2d(8, affine=False),
        lambda: nn.BatchNorm2d(8, momentum=None),
        lambda: nn.BatchNorm2d(8, track_running_stats=False),
    ],
    ids=['synchronized', 'instance', 'not affine', 'cumulative', 'untracked'])
def test_other_norms_take_the_map(fast, norm):
    loss, inputs = build(), features()
    loss.fusions[0].reduce[1] = norm().double().eval()
    assert loss(*inputs).isfinite() and fast.calls == 0


def test_half_precision(fast):
    loss, (student,
           teacher) = build(dtype=torch.float32), features(dtype=torch.float32)
    sizes = [*SIZES, (1, 1)]
    expected = loss.review(student, sizes)
    value = loss(student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        # the loss computes in float32 all the same
        assert torch.equal(loss(student, teacher), value)
        calls = fast.calls
        found = loss.review(student, sizes)
    assert (calls, fast.calls) == (3, 3)
    for ours, theirs in zip(found, expected):
        assert ours.isfinite().all()
        assert (ours - theirs).abs().mean() < 0.05
    halved = [x.bfloat16() for x in student]
    torch.testing.assert_close(loss(halved, teacher), value, rtol=0.02, atol=0)
    # weights in half precision
    loss.bfloat16()
    assert all(x.isfinite().all() for x in loss.review(halved, sizes))


def test_the_map_is_not_kept(fast):
    loss, (student,
           teacher) = build(dtype=torch.float32), features(dtype=torch.float32)
    loss.review([x.requires_grad_() for x in student], [*SIZES, (1, 1)])
    whole = (len(student[0]), loss.fusions[0].reduce[0].out_channels,
             *SIZES[0])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
            lambda x: kept.append(x.shape) or x, lambda x: x):
        loss(student, teacher)
        assert fast.calls == 2 and kept and whole not in kept
        fast.off = True
        loss(student, teacher)
        assert whole in kept
