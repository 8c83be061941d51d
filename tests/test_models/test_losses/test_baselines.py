# Copyright (c) sdd_mm contributors. All rights reserved.
"""The baselines' modules: what they refuse, draw, keep and learn."""
import copy
from collections import Counter

import pytest
import torch
from mmrazor.registry import MODELS
from reads import Recorder
from test_functional.cases import case

from sdd_mm.models.losses import DistillLossError

CRD = dict(
    type='ContrastiveLoss',
    student_channels=6,
    teacher_channels=8,
    num_data=30,
    num_negatives=20,
    dim=5)


def crd(**kwargs):
    loss = MODELS.build(dict(CRD, **kwargs))
    loss.set_labels(torch.arange(loss.num_data) % 5)
    return loss


def maps(batch, *shapes):
    return [torch.randn(batch, *shape, requires_grad=True) for shape in shapes]


# every module with features that it takes
MODULES = {
    'hint': (dict(type='HintLoss'), lambda: maps(4, (3, 4, 4), (3, 8, 8))),
    'rkd': (dict(type='RelationalLoss'), lambda: maps(4, (3, 1, 1), (5, ))),
    'sp': (dict(type='SimilarityLoss'), lambda: maps(4, (3, 4, 4), (5, 2, 2))),
    'pkt': (dict(type='PKTLoss'), lambda: maps(4, (3, ), (5, ))),
    'mgd': (dict(
        type='MaskedGenerationLoss',
        student_channels=3,
        teacher_channels=5,
        match_sizes=True), lambda: maps(4, (3, 4, 4), (5, 7, 7))),
    'review': (dict(
        type='ReviewLoss',
        student_channels=(3, 4, 4),
        teacher_channels=(5, 6, 7)), lambda:
               (maps(4, (3, 6, 6), (4, 3, 3),
                     (4, )), maps(4, (5, 9, 9), (6, 5, 5), (7, )))),
    'calibration': (dict(
        type='SemanticCalibrationLoss',
        student_channels=(3, 4),
        teacher_channels=(5, 6, 7),
        batch_size=4), lambda:
                    (maps(4, (3, 6, 6),
                          (4, 3, 3)), maps(4, (5, 9, 9), (6, 5, 5),
                                           (7, 2, 2)))),
    'rotations':
    (dict(type='RotationRelationLoss', student_channels=3,
          teacher_channels=5), lambda: maps(8, (3, 1, 1), (5, ))),
    'crd': (CRD, lambda: maps(4, (6, 1, 1), (8, )))
}
on_every_module = pytest.mark.parametrize('name', MODULES)


def build(name, **kwargs):
    """A module and what it is called with."""
    config, features = MODULES[name]
    torch.manual_seed(0)
    inputs = [*features()]
    if name == 'crd':
        return crd(**kwargs), [*inputs, torch.tensor([3, 9, 27, 0])]
    return MODELS.build(dict(config, **kwargs)), inputs


def flat(features):
    return features if isinstance(features, list) else [features]


@on_every_module
def test_weight_and_warm_up_and_who_learns(name):
    loss, inputs = build(name)
    torch.manual_seed(1)
    value = loss(*inputs)
    value.backward()
    assert value.shape == () and value > 0
    assert all(x.grad.abs().sum() > 0 for x in flat(inputs[0]))
    assert all(x.grad is None for x in flat(inputs[1]))
    for key, parameter in loss.named_parameters():
        with case(key=key):
            if key.startswith('teacher_projection'):
                assert not parameter.requires_grad and parameter.grad is None
            else:
                assert parameter.grad.isfinite().all()
    lighter, inputs = build(name, loss_weight=0.5)
    lighter.load_state_dict(loss.state_dict())
    lighter.warmup.fill_(0.25)
    if name == 'crd':
        lighter, _ = build(name, loss_weight=0.5)
        lighter.warmup.fill_(0.25)
    torch.manual_seed(1)
    torch.testing.assert_close(lighter(*inputs), value / 8)


@on_every_module
def test_computes_in_float32_whatever_is_around(name):
    loss, inputs = build(name)
    half = [[x.bfloat16()
             for x in side] if isinstance(side, list) else side.bfloat16()
            for side in inputs[:2]] + inputs[2:]
    values = []
    for features, autocast in ((inputs, False), (inputs, True), (half, True)):
        torch.manual_seed(1)
        # a copy: as it was before the step, memories included
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
            values.append(copy.deepcopy(loss)(*features))
    plain, inside, rounded = values
    assert torch.equal(inside, plain)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, plain, rtol=0.1, atol=0.05)


@on_every_module
def test_nothing_is_read_back_from_the_device(name):
    loss, inputs = build(name)
    with Recorder() as recorder:
        loss(*inputs).backward()
    assert len(recorder.names) > 3 and recorder.reads == []


@on_every_module
def test_copies_and_saved_states(name):
    loss, inputs = build(name)
    loss(*inputs).backward()
    again, _ = build(name)
    again.load_state_dict(loss.state_dict())
    values = []
    for module in (loss, copy.deepcopy(loss), again):
        torch.manual_seed(1)
        values.append(module(*inputs).item())
    assert len(set(values)) == 1
    assert 'warmup' not in loss.state_dict()


@pytest.mark.parametrize('name, change, message', [
    ('mgd', dict(match_sizes=False), 'match_sizes=True'),
    ('mgd', dict(mask_ratio=15), 'mask_ratio'),
    ('review', dict(student_channels=(3, 4)), '2 maps and the teacher has 3'),
    ('review',
     dict(student_channels=(3, 4, 4, 4), teacher_channels=(5, 6, 7, 7)),
     r'student_channels is \(3, 4, 4, 4\).*\(3, 4, 4\)'),
    ('calibration', dict(teacher_channels=(5, 6)),
     r'teacher_channels is \(5, 6\), but.*\(5, 6, 7\)'),
    ('calibration', dict(batch_size=8), 'drop_last to True'),
    ('calibration', dict(batch_size=3), 'at least 4'),
    ('mgd', dict(student_channels=4), 'set it to 3'),
    ('crd', dict(teacher_channels=7), 'set it to 8'),
    ('rotations', dict(student_channels=5), 'set it to 3'),
    ('rotations', dict(ratio=75), 'ratio'),
])
def test_what_cannot_be_distilled_is_refused(name, change, message):
    with pytest.raises(ValueError, match=message):
        loss, inputs = build(name, **change)
        loss(*inputs)


def test_the_mask_of_generation_drops_channels():
    loss, _ = build('mgd', mask_ratio=0.3)
    feature = torch.ones(200, 50, 2, 2)
    mask = loss.mask(feature)
    assert mask.shape == (200, 50, 1, 1) and set(
        mask.unique().tolist()) == {0., 1.}
    assert mask.mean().item() == pytest.approx(0.7, abs=0.02)
    # another draw, and the same again from the same state
    state = torch.get_rng_state()
    other = loss.mask(feature)
    torch.set_rng_state(state)
    assert not torch.equal(mask, other)
    assert torch.equal(loss.mask(feature), other)


def test_negatives_are_drawn_evenly_from_other_classes():
    loss = crd(num_negatives=12)
    index = torch.tensor([7, 7, 29])
    drawn = [Counter() for _ in index]
    for _ in range(400):
        negatives = loss.draw_negatives(index)
        for count, row in zip(drawn, negatives.tolist()):
            assert len(set(row)) == 12
            count.update(row)
    for count, image in zip(drawn, index.tolist()):
        others = [i for i in range(30) if i % 5 != image % 5]
        assert sorted(count) == others
        # half of the 24 others each time, 200 of 400 draws
        assert max(abs(count[i] - 200) for i in others) < 45


def test_negatives_are_drawn_in_chunks(monkeypatch):
    import sdd_mm.models.losses.contrastive_loss as module
    loss, index = crd(), torch.arange(30)
    monkeypatch.setattr(module, 'CHUNK', 100)
    rows = loss.draw_negatives(index)
    assert rows.shape == (30, 20)
    assert (rows % 5 != index[:, None] % 5).all()


@pytest.mark.parametrize('labels, negatives, message', [
    (torch.zeros(29), 20, 'num_data'),
    (torch.arange(30) % 5, 25, 'at most 24'),
    (torch.zeros(30), 1, 'at most 0'),
    (None, 20, 'TrainingLabelsHook'),
])
def test_too_few_negatives_are_refused(labels, negatives, message):
    loss = MODELS.build(dict(CRD, num_negatives=negatives))
    with pytest.raises(DistillLossError, match=message):
        if labels is not None:
            loss.set_labels(labels)
        loss(*maps(2, (6, ), (8, )), torch.tensor([0, 1]))


def test_of_an_image_that_occurs_twice_the_last_embedding_counts():
    student, teacher = maps(4, (6, ), (8, ))
    results = []
    for rows in ([0, 1, 2, 3], [1, 3]):
        torch.manual_seed(0)
        loss = crd()
        before = loss.memory_student.clone()
        index = torch.tensor([4, 4, 9, 9])[rows]
        loss(student[rows], teacher[rows], index)
        assert torch.equal(before[5], loss.memory_student[5])
        moved = loss.memory_student[[4, 9]]
        assert not torch.equal(before[[4, 9]], moved)
        torch.testing.assert_close(moved.norm(dim=1), torch.ones(2))
        results.append(moved)
    torch.testing.assert_close(*results)


def test_the_normalizers_are_those_of_the_first_batch():
    loss, inputs = build('crd')
    assert (loss.normalizers == 0).all()
    loss(*inputs)
    first = loss.normalizers.clone()
    loss(*inputs)
    assert (first > 0).all() and torch.equal(loss.normalizers, first)


def test_memories_start_evenly_and_are_not_trained():
    loss = crd(num_data=2000, dim=12)
    for memory in (loss.memory_student, loss.memory_teacher):
        bound = memory.abs().max().item()
        assert bound == pytest.approx(0.5, abs=0.01) and bound <= 0.5
        assert memory.mean().abs() < 0.01
    assert {name.split('.')[0]
            for name, _ in loss.named_parameters()
            } == {'embed_student', 'embed_teacher'}
    assert set(loss.state_dict()) >= {
        'memory_student', 'memory_teacher', 'normalizers'
    }


def test_what_a_review_hands_on_has_the_size_of_the_teachers_map():
    loss = MODELS.build(
        dict(
            type='ReviewLoss',
            student_channels=(3, 4, 4),
            teacher_channels=(5, 6, 7)))
    sizes = []
    for fusion in loss.fusions:
        fusion.register_forward_pre_hook(
            lambda module, args: sizes.append(args[1]))
    loss.review(maps(4, (3, 4, 4), (4, 3, 3), (4, )), [(8, 8), (5, 5), (1, 1)])
    # from the pooled features, which get nothing, to the shallowest
    assert [x if x is None else x.shape[2:]
            for x in sizes] == [None, (1, 1), (5, 5)]


def test_reviews_start_as_released():
    torch.manual_seed(0)
    loss = MODELS.build(
        dict(
            type='ReviewLoss',
            student_channels=(12, 48),
            teacher_channels=(5, 40)))
    reduce, expand = loss.fusions[0].reduce[0], loss.fusions[0].expand[0]
    for layer, inputs in ((reduce, 12), (expand, 48 * 9)):
        # uniform, of variance 1 / inputs
        bound = (3 / inputs)**0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is None
    assert loss.fusions[1].attend is None
    assert loss.fusions[0].attend.bias is not None


def test_numbers_of_parameters():
    # of the papers' pairs on CIFAR-100; 1.81 M and 16.8 k are in figure 1 of
    # Zhao et al., CVPR 2022, for resnet32x4 and resnet8x4
    stages, shuffle = (64, 128, 256, 256), (240, 480, 960, 960)
    expected = {
        1808774:
        dict(type='ReviewLoss', s=stages, t=stages),
        4607366:
        dict(type='ReviewLoss', s=shuffle, t=stages),
        10233632:
        dict(
            type='SemanticCalibrationLoss',
            s=stages[:3],
            t=stages[:3],
            batch_size=64),
        648056656:
        dict(
            type='SemanticCalibrationLoss',
            s=shuffle[:3],
            t=(256, 512, 1024, 2048),
            batch_size=64),
        1180160:
        dict(type='MaskedGenerationLoss', s=256, t=256),
        65792:
        dict(type='ContrastiveLoss', s=256, t=256, num_data=50000),
    }
    for count, config in expected.items():
        config.update(
            student_channels=config.pop('s'), teacher_channels=config.pop('t'))
        with torch.device('meta'), case(config=config):
            loss = MODELS.build(config)
            assert sum(p.numel() for p in loss.parameters()) == count
    regressor = MODELS.build(
        dict(
            type='ConvRegressor',
            student_shape=(128, 16, 16),
            teacher_shape=(128, 16, 16)))
    assert sum(p.numel() for p in regressor.parameters()) == 16768
