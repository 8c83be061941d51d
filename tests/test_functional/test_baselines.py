# Copyright (c) sdd_mm contributors. All rights reserved.
"""The baselines' functions against their literal writing, and what holds."""
import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal import baseline_losses as literal
from literal.tensors import assert_near
from reads import Recorder
from test_functional.cases import case

from sdd_mm.functional import (contrastive_loss, contrastive_scores,
                               hierarchical_context_loss, hint_loss,
                               keep_ranked, masked_generation_loss, pkt_loss,
                               relation_loss, rkd_loss, rotation_relations,
                               similarity_loss)

examples = settings(
    max_examples=20, derandomize=True, deadline=None, database=None)
counts = st.integers(1, 5)
seeds = st.integers(0, 2**32)
# losses of features of any shape, and losses of two maps of one shape
RELATIONS = dict(rkd=rkd_loss, sp=similarity_loss, pkt=pkt_loss)
MAPS = dict(
    hint=hint_loss,
    generation=masked_generation_loss,
    context=hierarchical_context_loss)
PAIRS = {**RELATIONS, **MAPS}


def make(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=dtype)
        for shape in shapes
    ]


def orthogonal(channels, seed):
    draw, = make((channels, channels), seed=seed)
    return torch.linalg.qr(draw).Q


@examples
@given(counts, counts, counts, seeds)
def test_relations_equal_the_literal_writing(batch, ours, theirs, seed):
    student, teacher = make((batch, ours), (batch, theirs), seed=seed)
    lists = student.tolist(), teacher.tolist()
    assert similarity_loss(student, teacher).item() == pytest.approx(
        literal.similarity(*lists), rel=1e-9, abs=1e-14)
    assert pkt_loss(student, teacher).item() == pytest.approx(
        literal.pkt(*lists), rel=1e-9, abs=1e-14)
    if batch > 1:
        assert rkd_loss(student, teacher, 2., 3.).item() == pytest.approx(
            literal.rkd(*lists, 2., 3.), rel=1e-9, abs=1e-14)


@examples
@given(counts, counts, st.integers(1, 9), st.integers(1, 9), seeds)
def test_losses_of_maps_equal_the_literal_writing(batch, channels, height,
                                                  width, seed):
    maps = make(*[(batch, channels, height, width)] * 2, seed=seed)
    rows = [x.flatten(1).tolist() for x in maps]
    for name, arguments in (('hint', rows), ('masked_generation', rows),
                            ('context', [x.tolist() for x in maps])):
        function = MAPS[name.replace('masked_', '')]
        assert function(*maps).item() == pytest.approx(
            getattr(literal, name)(*arguments), rel=1e-12)


@examples
@given(counts, counts, st.integers(2, 12), counts, seeds)
def test_contrastive_equals_the_literal_writing(batch, size, images, negatives,
                                                seed):
    embedding, bank = make((batch, size), (images, size), seed=seed)
    index = torch.randint(images, (batch, 1 + negatives))
    scores = contrastive_scores(embedding, bank, index, 0.7)
    expected = literal.contrastive_scores(embedding.tolist(), bank.tolist(),
                                          index.tolist(), 0.7)
    assert_near(scores, torch.tensor(expected, dtype=scores.dtype), 1e-12)
    assert contrastive_loss(scores, images).item() == pytest.approx(
        literal.contrastive(expected, images), rel=1e-12)


@examples
@given(
    st.integers(2, 5), counts, st.sampled_from([0., 0.3, 0.5, 0.75, 1.]),
    seeds)
def test_rotations_equal_the_literal_writing(images, size, ratio, seed):
    student, teacher = make((4 * images, size), (4 * images, size + 1),
                            seed=seed)
    pair = [rotation_relations(x) for x in (student, teacher)]
    lists = [
        literal.rotation_relations(x.tolist()) for x in (student, teacher)
    ]
    for relations, expected in zip(pair, lists):
        assert_near(relations, torch.tensor(expected, dtype=torch.float64),
                    1e-12)
    target = torch.arange(3 * images) // 3
    kept = keep_ranked(pair[1], target, ratio)
    chosen = literal.kept(lists[1], target.tolist(), ratio)
    assert kept.tolist() == chosen
    if any(chosen):
        assert relation_loss(*pair, kept, 0.7).item() == pytest.approx(
            literal.relation(*lists, chosen, 0.7), rel=1e-10)


def test_the_literal_rows_that_are_kept():
    scores = [[3., 2., 1.], [1., 2., 3.], [2., 1., 3.], [1., 2., 3.]]
    for ratio, expected in ((0., [0]), (0.34, [0, 2]), (0.67, [0, 1, 2]),
                            (1., [0, 1, 2, 3])):
        kept = keep_ranked(
            torch.tensor(scores), torch.tensor([0, 0, 0, 0]), ratio)
        assert kept.nonzero().flatten().tolist() == expected


@pytest.mark.parametrize('name', PAIRS)
def test_derivatives(name):
    for shape in ((4, 3, 5, 6), (3, 2, 1, 1)):
        student, teacher = make(shape, shape)
        student.requires_grad_()
        teacher.requires_grad_()
        loss = PAIRS[name](student, teacher)
        loss.backward()
        assert loss.shape == () and teacher.grad is None
        with case(shape=shape):
            assert torch.autograd.gradcheck(lambda x: PAIRS[name](x, teacher),
                                            student.detach().requires_grad_())


def test_derivatives_of_scores_and_relations():
    embedding, bank, projection = make((3, 4), (7, 4), (12, 5))
    bank.requires_grad_()
    index = torch.tensor([[0, 6, 3], [1, 1, 2], [5, 4, 0]])

    def contrast(x):
        return contrastive_loss(contrastive_scores(x, bank, index) / 9., 7)

    teacher = rotation_relations(make((12, 2), seed=1)[0]).requires_grad_()
    kept = torch.tensor([True, False, True] * 3)

    def relate(x):
        return relation_loss(rotation_relations(x), teacher, kept)

    for function, x in ((contrast, embedding), (relate, projection)):
        x.requires_grad_()
        assert torch.autograd.gradcheck(function, x)
        function(x).backward()
    assert bank.grad is None and teacher.grad is None


@examples
@given(st.integers(3, 5), counts, st.floats(0.1, 10.), seeds)
def test_relations_are_the_same_in_turned_features(batch, size, scale, seed):
    student, teacher, shift = make((batch, size + 1), (batch, size),
                                   (1, size + 1),
                                   seed=seed)
    turned = student @ orthogonal(size + 1, seed)
    for loss in RELATIONS.values():
        assert_near(loss(turned, teacher), loss(student, teacher), 1e-9)
    for loss in (similarity_loss, rkd_loss):
        assert_near(
            loss(scale * turned, teacher), loss(student, teacher), 1e-9)
    assert_near(
        rkd_loss(scale * turned + shift, teacher), rkd_loss(student, teacher),
        1e-9)


def test_relations_of_equal_networks_are_zero_and_of_others_are_not():
    student, teacher = make((5, 3), (5, 4))
    for name, loss in RELATIONS.items():
        with case(name=name):
            assert loss(teacher, teacher).abs() < 1e-12
            assert loss(student, teacher) > 1e-4


def features(dtype, large):
    """A batch with a dead sample, twins and another sample."""
    student, teacher = make((5, 6, 4, 4), (5, 6, 4, 4), dtype=torch.float32)
    student[0] = student[1] = 0.
    student[3] = student[2]
    teacher[4] = 0.
    return [(large * x).to(dtype) for x in (student, teacher)]


@pytest.mark.parametrize('name', PAIRS)
def test_extreme_batches_have_finite_gradients(name):
    for dtype, large in product([torch.float16, torch.bfloat16, torch.float32],
                                [1., 1e4]):
        pair = features(dtype, large)
        for rows in ([0, 1, 2, 3, 4], [0], [0, 1], [2, 3], [4], [0, 4]):
            student, teacher = (x[rows] for x in pair)
            student.requires_grad_()
            with case(dtype=dtype, large=large, rows=rows):
                loss = PAIRS[name](student, teacher)
                assert loss.dtype == torch.float32
                loss.backward()
                assert loss.isfinite() and student.grad.dtype == dtype
                if dtype != torch.float16 or name not in MAPS:
                    assert student.grad.isfinite().all()
                wide = PAIRS[name](student.double(), teacher.double())
                assert loss.item() == pytest.approx(
                    wide.item(), rel=1e-3, abs=1e-5)


def test_relations_of_few_samples_are_zero():
    for batch, loss in ((1, rkd_loss), (2, rkd_loss), (1, similarity_loss),
                        (1, pkt_loss)):
        student, teacher = make((batch, 4), (batch, 3))
        student.requires_grad_()
        value = loss(student, teacher)
        value.backward()
        assert value.abs() < 1e-12 and student.grad.abs().max() < 1e-9


def test_no_half_precision_inside_autocast():
    student, teacher, index = *make(*[(6, 3, 4, 4)] * 2), torch.tensor([[1,
                                                                         2]])
    student, teacher = student.float(), teacher.float()
    rows = student.flatten(1)[:4]

    def values():
        yield from (loss(student, teacher) for loss in PAIRS.values())
        yield contrastive_scores(rows[:1], rows / 50, index, 10.)
        yield rotation_relations(rows)

    plain = list(values())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for value, expected in zip(values(), plain):
            assert value.dtype == torch.float32
            assert torch.equal(value, expected)


def step(device='cpu'):
    """Every function once, forward and backward."""

    def draw(*shape):
        return torch.rand(shape, device=device, requires_grad=True)

    student = draw(8, 3, 5, 5)
    losses = [loss(student, draw(8, 3, 5, 5)) for loss in PAIRS.values()]
    index = torch.zeros(8, 4, dtype=torch.long, device=device)
    scores = contrastive_scores(student.flatten(1) / 75, draw(9, 75), index)
    losses.append(contrastive_loss(scores, 9))
    relations = rotation_relations(student.flatten(1))
    kept = keep_ranked(relations, index[0, :1].expand(6), 0.75)
    losses.append(relation_loss(relations, draw(6, 2), kept))
    sum(losses).backward()
    return losses, student


def test_nothing_is_read_back_from_the_device():
    with Recorder() as recorder:
        _, student = step()
    assert student.grad.isfinite().all()
    assert {'gather', 'bmm', 'mm'} <= set(recorder.names)
    assert recorder.reads == []


def test_no_shape_needs_the_data():
    losses, student = step('meta')
    assert all(loss.shape == () for loss in losses)
    assert student.grad.shape == student.shape


def test_the_bank_is_taken_in_chunks(monkeypatch):
    import sdd_mm.functional.contrastive as module
    embedding, bank = make((7, 4), (10, 4))
    embedding.requires_grad_()
    index = torch.randint(10, (7, 5))
    results = []
    for chunk in (2**26, 30, 1):
        monkeypatch.setattr(module, 'CHUNK', chunk)
        scores = contrastive_scores(embedding, bank, index)
        results.append((scores, *torch.autograd.grad(scores.sum(), embedding)))
    for found in results[1:]:
        for one, other in zip(found, results[0]):
            assert_near(one, other, 1e-12)


def test_negatives_of_an_even_chance():
    # all scores equal to the noise: every decision is a coin
    scores = torch.full((3, 11), 10 / 100, dtype=torch.float64)
    assert contrastive_loss(scores, 100).item() == pytest.approx(
        11 * math.log(2), rel=1e-5)


def test_a_mask_of_no_rows_gives_zero_and_no_gradient():
    student, teacher = make((6, 2), (6, 2))
    student.requires_grad_()
    loss = relation_loss(student, teacher, torch.zeros(6, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and (student.grad == 0).all()
    assert relation_loss(student[:3, :1], teacher[:3, :1]) == 0


@pytest.mark.parametrize('function, arguments, message', [
    (hint_loss, [(2, 3), (2, 4)], 'one shape'),
    (masked_generation_loss, [(2, 3, 4, 4), (2, 3, 2, 2)], 'one shape'),
    (hierarchical_context_loss, [(2, 3), (2, 3)], 'maps of shape'),
    (hint_loss, [(0, 3), (0, 3)], 'same samples'),
    (rkd_loss, [(2, 3), (3, 3)], 'same samples'),
    (similarity_loss, [(2, ), (2, )], 'same samples'),
    (pkt_loss, [(0, 3), (0, 3)], 'same samples'),
    (contrastive_scores, [(2, 3), (5, 4), (2, 3)], 'bank'),
    (contrastive_scores, [(2, 3), (5, 3), (3, 3)], 'index'),
    (contrastive_loss, [(2, 1), 9], 'one negative'),
    (contrastive_loss, [(2, 3), 0], 'num_data'),
    (rotation_relations, [(6, 3)], 'four views'),
    (rotation_relations, [(0, 3)], 'four views'),
    (relation_loss, [(6, 2), (6, 3)], 'one shape'),
    (relation_loss, [(6, 2), (6, 2), (6, )], 'kept must be a mask'),
    (relation_loss, [(6, 2), (6, 2), None, 0.], 'tau'),
    (keep_ranked, [(6, 2), (5, ), 0.5], 'target'),
    (keep_ranked, [(6, 2), (6, ), 75], 'ratio'),
])
def test_wrong_arguments_are_named(function, arguments, message):
    arguments = [
        torch.zeros(x) if isinstance(x, tuple) else x for x in arguments
    ]
    with pytest.raises(ValueError, match=message):
        function(*arguments)
