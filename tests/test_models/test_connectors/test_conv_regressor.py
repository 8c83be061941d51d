# Copyright (c) sdd_mm contributors. All rights reserved.
import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn


def build(student, teacher):
    return MODELS.build(
        dict(
            type='ConvRegressor', student_shape=student,
            teacher_shape=teacher))


@pytest.mark.parametrize('student, teacher, kind, kernel', [
    ((16, 16, 16), (32, 16, 16), nn.Conv2d, (1, 1)),
    ((128, 16, 16), (64, 8, 8), nn.Conv2d, (3, 3)),
    ((16, 8, 8), (128, 16, 16), nn.ConvTranspose2d, (4, 4)),
    ((6, 8, 8), (5, 5, 5), nn.Conv2d, (4, 4)),
    ((6, 7, 5), (4, 7, 2), nn.Conv2d, (1, 4)),
    ((6, 6, 8), (4, 3, 4), nn.Conv2d, (3, 3)),
])
def test_the_students_map_gets_the_shape_of_the_teachers(
        student, teacher, kind, kernel):
    connector = build(student, teacher)
    assert type(connector.conv) is kind
    assert connector.conv.kernel_size == kernel
    assert connector.conv.bias is not None
    output = connector(torch.randn(2, *student))
    assert output.shape == (2, *teacher) and output.min() == 0


def test_a_map_that_cannot_grow_keeps_its_size():
    output = build((6, 2, 2), (7, 8, 8))(torch.randn(2, 6, 2, 2))
    assert output.shape == (2, 7, 2, 2)


def test_weights_start_with_the_defaults_of_torch():
    connector = build((16, 8, 8), (8, 8, 8))
    connector.init_weights()
    assert connector.conv.weight.abs().max() <= 0.25
    torch.testing.assert_close(
        connector.conv.weight.std(),
        torch.tensor(0.25 / 3**0.5),
        rtol=0.15,
        atol=0)


@pytest.mark.parametrize('student, teacher', [
    ((6, 8, 4), (6, 4, 8)),
    ((6, 8), (6, 8)),
])
def test_shapes_without_a_rule_are_refused(student, teacher):
    with pytest.raises(ValueError, match='student_shape'):
        build(student, teacher)
