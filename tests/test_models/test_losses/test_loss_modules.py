# Copyright (c) sdd_mm contributors. All rights reserved.
import itertools

import pytest
import torch
from mmrazor.registry import MODELS

from sdd_mm import FeatureHead, LocalLogits, RegionHead
from sdd_mm.engine.hooks.sdd_report_hook import split
from sdd_mm.functional import (dkd_loss, kd_loss, local_logits, nkd_loss,
                               scale_decoupled_loss)

B, K = 6, 5
CRITERIA = [
    (dict(type='KDCriterion', tau=2.0), lambda s, t, y: kd_loss(s, t, 2.0)),
    (dict(type='DKDCriterion', alpha=0.5, beta=3.0,
          tau=2.0), lambda s, t, y: dkd_loss(s, t, y, 0.5, 3.0, 2.0)),
    (dict(type='NKDCriterion', gamma=2.0, tau=1.5, keep_target=True),
     lambda s, t, y: nkd_loss(s, t, y, 2.0, 1.5, True)),
]


def records(size=(7, 7), seed=0):
    torch.manual_seed(seed)
    student = FeatureHead(
        torch.randn(B, 4, *size, dtype=torch.float64, requires_grad=True),
        torch.randn(K, 4, dtype=torch.float64, requires_grad=True),
        torch.randn(K, dtype=torch.float64))
    teacher = FeatureHead(
        torch.randn(B, 8, 6, 9, dtype=torch.float64, requires_grad=True),
        torch.randn(K, 8, dtype=torch.float64))
    return student, teacher, torch.randint(K, (B, ))


def local(record, scales, pooling):
    return local_logits(record.feature, record.weight, record.bias, scales,
                        pooling)


@pytest.mark.parametrize('config, criterion', CRITERIA)
@pytest.mark.parametrize('scales, pooling, first', [
    ((1, 2, 4), 'hierarchical', 0),
    ((4, 1), 'hierarchical', 16),
    ((2, 4), 'hierarchical', None),
    ((2, 1), 'direct', None),
])
def test_module_is_the_function(config, criterion, scales, pooling, first):
    student, teacher, target = records()
    settings = dict(
        consistent_weight=0.5,
        complementary_weight=3.0,
        consistency='class',
        reduction='sum')
    loss = MODELS.build(
        dict(
            type='ScaleDecoupledLoss',
            criterion=config,
            scales=scales,
            pooling=pooling,
            loss_weight=0.7,
            **settings))
    cells = local(teacher, scales, pooling)
    # released: scale 1's own cell; otherwise the teacher's true logits
    verdict = (
        cells[first] if first is not None else teacher.feature.mean(
            (2, 3)) @ teacher.weight.T)
    expected = 0.7 * scale_decoupled_loss(
        local(student, scales, pooling),
        cells,
        target,
        criterion,
        global_logits=verdict,
        **settings)
    torch.testing.assert_close(loss(student, teacher, target), expected)


@pytest.mark.parametrize('config, criterion', CRITERIA)
def test_logit_loss_is_the_criterion_on_the_true_logits(config, criterion):
    student, teacher, target = records()
    loss = MODELS.build(
        dict(type='LogitLoss', criterion=config, loss_weight=0.3))
    true = [
        r.feature.mean((2, 3)) @ r.weight.T + (0 if r.bias is None else r.bias)
        for r in (student, teacher)
    ]
    expected = 0.3 * criterion(*true, target).mean()
    torch.testing.assert_close(loss(student, teacher, target), expected)
    one = torch.nn.functional.one_hot(target, K).double()
    torch.testing.assert_close(loss(student, teacher, one), expected)


def test_no_gradient_reaches_the_teacher_and_all_of_the_student():
    student, teacher, target = records()
    for kind in ('ScaleDecoupledLoss', 'LogitLoss'):
        loss = MODELS.build(
            dict(type=kind, criterion=dict(type='DKDCriterion')))
        loss(student, teacher, target).backward()
        assert teacher.feature.grad is None
        for tensor in (student.feature, student.weight):
            assert tensor.grad.abs().sum() > 0
            tensor.grad = None


def test_defaults_are_the_released_ones():
    loss = MODELS.build(
        dict(type='ScaleDecoupledLoss', criterion=dict(type='KDCriterion')))
    assert (loss.scales, loss.pooling, loss.consistency,
            loss.consistent_weight, loss.complementary_weight, loss.reduction,
            loss.loss_weight,
            loss.criterion.tau) == ((1, 2, 4), 'hierarchical', 'label', 1.0,
                                    2.0, 'mean', 1.0, 4.0)
    assert not loss.state_dict() and not list(loss.parameters())


@pytest.mark.parametrize('chunk_size', [None, 1, 3])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_parts_of_the_loss(reduction, chunk_size):
    student, teacher, target = records()
    loss = MODELS.build(
        dict(
            type='ScaleDecoupledLoss',
            criterion=dict(type='KDCriterion'),
            loss_weight=0.9,
            reduction=reduction,
            chunk_size=chunk_size))
    loss.warmup.fill_(0.5)
    value = loss(student, teacher, target)
    found = split(loss, loss.rows(student, teacher, target))
    cells = [
        local(record, (1, 2, 4), 'hierarchical')
        for record in (student, teacher)
    ]
    right = cells[1].argmax(-1) == target
    mask = right != right[0]
    assert 0 < mask.sum() < mask.numel() and not mask[0].any()
    rows = 0.45 / B * kd_loss(*cells, 4.0) * (1.0 + mask)
    if reduction == 'mean':
        rows = rows / 21
    expected = dict(
        part_scale1=rows[:1].sum(),
        part_scale2=rows[1:5].sum(),
        part_scale4=rows[5:].sum(),
        part_consistent=rows[~mask].sum(),
        part_complementary=rows[mask].sum(),
        complementary=mask.float().mean(),
        both_right=(right[0] & right).float().mean(),
        only_image_right=(right[0] & ~right).float().mean(),
        only_cell_right=(~right[0] & right).float().mean(),
        both_wrong=(~right[0] & ~right).float().mean())
    assert list(found) == list(expected)
    for name, part in found.items():
        assert not part.requires_grad
        torch.testing.assert_close(part, expected[name].detach())
    torch.testing.assert_close(rows.sum(), value)


@pytest.mark.parametrize('wrong, message', [
    (dict(scales=()), 'scales'),
    (dict(scales=(0, 1)), 'scales'),
    (dict(pooling='max'), 'pooling'),
    (dict(consistency='both'), 'consistency'),
    (dict(reduction='none'), 'reduction'),
    (dict(criterion=dict(type='KDCriterion', tau=0.0)), 'tau'),
    (dict(taau=1.0), 'taau'),
])
def test_wrong_settings_are_refused_when_built(wrong, message):
    config = dict(
        type='ScaleDecoupledLoss', criterion=dict(type='KDCriterion'))
    with pytest.raises((TypeError, ValueError), match=message):
        MODELS.build(dict(config, **wrong))


def test_region_head_with_a_linear_tail_is_a_feature_head():
    student, _, _ = records()
    region = RegionHead(
        student.feature,
        lambda x: torch.nn.functional.linear(x, student.weight, student.bias))
    for scales in ((1, 2, 4), (3, )):
        torch.testing.assert_close(
            region.local_logits(scales, 'direct'),
            student.local_logits(scales, 'direct'))
    torch.testing.assert_close(region.logits(), student.logits())


def test_local_logits_record_answers_its_own_grid_only():
    student, teacher, target = records()
    logits = teacher.local_logits((2, 1), 'direct')
    record = LocalLogits(logits=logits, scales=(2, 1), pooling='direct')
    assert record.local_logits((2, 1), 'direct') is logits
    torch.testing.assert_close(record.logits(), teacher.logits())
    with pytest.raises(ValueError, match='asks for scales'):
        record.local_logits((1, 2), 'direct')
    with pytest.raises(ValueError, match='hierarchical'):
        record.local_logits((2, 1), 'hierarchical')
    loss = MODELS.build(
        dict(
            type='ScaleDecoupledLoss',
            criterion=dict(type='KDCriterion'),
            scales=(2, 1),
            pooling='direct'))
    torch.testing.assert_close(
        loss(student, record, target), loss(student, teacher, target))


def test_local_logits_record_without_global_logits_says_so():
    _, teacher, _ = records()
    for scales, pooling in (((2, ), 'direct'), ((1, 2), 'hierarchical')):
        record = LocalLogits(
            teacher.local_logits(scales, pooling), scales, pooling)
        with pytest.raises(ValueError, match='do not hold the global'):
            record.logits()
    with pytest.raises(ValueError, match='must have shape'):
        LocalLogits(torch.zeros(4, B, K), (1, 2), 'direct')


def test_local_logits_record_with_global_logits_returns_them():
    _, teacher, _ = records()
    own = torch.randn(B, K)
    for scales, pooling in (((2, ), 'direct'), ((1, 2), 'direct')):
        record = LocalLogits(
            teacher.local_logits(scales, pooling), scales, pooling, own)
        assert record.logits() is own
    with pytest.raises(ValueError, match='global_logits must have shape'):
        LocalLogits(torch.zeros(4, B, K), (2, ), 'direct', own[1:])


def kinds(scales=(1, 2), pooling='direct'):
    """The same teacher as every kind of record."""
    _, teacher, _ = records()
    own = teacher.logits()

    def tail(rows):
        return torch.nn.functional.linear(rows, teacher.weight)

    local_cells = teacher.local_logits(scales, pooling)
    return dict(
        feature=teacher,
        region=RegionHead(teacher.feature, tail),
        region_own=RegionHead(teacher.feature, tail, own),
        local=LocalLogits(local_cells, scales, pooling),
        local_own=LocalLogits(local_cells, scales, pooling, own))


@pytest.mark.parametrize('kind', list(kinds()))
def test_records_give_samples(kind):
    record = kinds()[kind]
    part = record.samples(slice(2, 5))
    assert type(part) is type(record)
    assert (record.num_samples, part.num_samples) == (B, 3)
    assert record.num_classes == (None if kind == 'region' else K)
    torch.testing.assert_close(
        part.local_logits((1, 2), 'direct'),
        record.local_logits((1, 2), 'direct')[:, 2:5])
    torch.testing.assert_close(part.logits(), record.logits()[2:5])


@pytest.mark.parametrize('kind', list(kinds()))
def test_chunks_change_nothing(kind):
    student, _, labels = records()
    teacher = kinds()[kind]
    scores = torch.nn.functional.one_hot(labels, K).double()
    cases = zip(
        itertools.product([config for config, _ in CRITERIA], (1, 4, 5)),
        itertools.cycle(itertools.product(('mean', 'sum'), (labels, scores))))
    for (config, chunk_size), (reduction, target) in cases:
        results = []
        for size in (None, chunk_size):
            loss = MODELS.build(
                dict(
                    type='ScaleDecoupledLoss',
                    criterion=config,
                    scales=(1, 2),
                    pooling='direct',
                    reduction=reduction,
                    chunk_size=size))
            value = loss(student, teacher, target)
            results.append((value, *torch.autograd.grad(
                value, [student.feature, student.weight])))
        for one, other in zip(*results):
            torch.testing.assert_close(
                one, other, msg=f'{config}, {chunk_size}, {reduction}')


def test_only_one_chunk_of_local_logits_is_kept():
    student, teacher, target = records()

    def kept(size):
        loss = MODELS.build(
            dict(
                type='ScaleDecoupledLoss',
                criterion=dict(type='KDCriterion'),
                chunk_size=size))
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
                lambda tensor: shapes.append(tensor.shape) or tensor,
                lambda tensor: tensor):
            loss(student, teacher, target)
        return shapes

    assert (21, B, K) in kept(None) and (21, B, K) in kept(B)
    assert not any(shape[0] == 21 for shape in kept(2) if shape)


@pytest.mark.parametrize('classes, cells, most', [(1000, 21, 1597),
                                                  (21841, 21, 73)])
def test_chunks_by_themselves_where_logits_are_many(classes, cells, most):
    loss = MODELS.build(
        dict(type='ScaleDecoupledLoss', criterion=dict(type='KDCriterion')))
    record = LocalLogits(torch.zeros(21, 1, classes), (1, 2, 4), 'direct')
    assert loss._chunk_size(record, record) == most


@pytest.mark.parametrize('wrong', [0, -1, 2., True, 'all'])
def test_chunk_size_is_a_positive_integer(wrong):
    with pytest.raises(ValueError, match='chunk_size must be'):
        MODELS.build(
            dict(
                type='ScaleDecoupledLoss',
                criterion=dict(type='KDCriterion'),
                chunk_size=wrong))
