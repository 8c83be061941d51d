# Copyright (c) sdd_mm contributors. All rights reserved.
"""Reading state dicts and comparing them with a model."""
import pytest
import torch
from torch import nn
from toy import build_classifier

from sdd_mm.weights import (WeightsError, misfits, network_weights,
                            read_checkpoint, weights_hash)


def test_a_checkpoint_is_read_without_what_wrappers_put_before(tmp_path):
    weights = build_classifier().state_dict()
    wrapped = {f'module.{name}': value for name, value in weights.items()}
    run = dict(state_dict=weights, meta=dict(epoch=3))
    for name, content in (('bare', weights), ('run', run), ('wrapped',
                                                            wrapped)):
        torch.save(content, tmp_path / name)
        found = read_checkpoint(str(tmp_path / name))
        assert found['state_dict'].keys() == weights.keys(), name
        assert found['meta'] == (dict(epoch=3) if name == 'run' else {})


def test_a_distilled_students_weights_are_a_networks(tmp_path):
    weights = build_classifier().state_dict()
    distilled = {f'architecture.{n}': w for n, w in weights.items()}
    distilled['distiller.connector.weight'] = torch.ones(1)
    for one in (weights, distilled, {'data_preprocessor.mean': 0, **weights}):
        assert network_weights(one).keys() == weights.keys()


@pytest.mark.parametrize('content, message', [
    (3, 'holds no state dict'),
    (dict(state_dict=[1]), 'holds no state dict'),
    (dict(state_dict=dict(a=1)), 'holds no state dict'),
    (dict(state_dict={}, meta=[1]), 'is damaged: its meta is a list'),
])
def test_files_without_weights_are_named(tmp_path, content, message):
    path = tmp_path / 'file.pth'
    torch.save(content, path)
    with pytest.raises(WeightsError, match=f'file.pth {message}'):
        read_checkpoint(str(path))
    with pytest.raises(WeightsError, match='nowhere.pth does not exist in'):
        read_checkpoint('nowhere.pth')
    path.write_bytes(b'no checkpoint')
    with pytest.raises(WeightsError, match='file.pth cannot be read'):
        read_checkpoint(str(path))


def test_every_misfit_is_listed_by_kind():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = dict(model.state_dict())
    assert not misfits(weights, model) and str(misfits(weights, model)) == ''
    del weights['1.num_batches_tracked']  # old checkpoints have none
    assert not misfits(weights, model)
    weights['surplus'] = weights.pop('1.weight')
    weights['0.weight'] = torch.zeros(3, 4)
    weights['0.bias'] = torch.tensor([0., float('nan'), 0.])
    weights['1.bias'] = torch.zeros(3, dtype=torch.int64)
    assert str(misfits(weights, model)) == (
        '1 weight is missing: 1.weight; 1 weight is not in the model: '
        'surplus; 1 weight is of another shape: 0.weight (3, 4) instead of '
        '(3, 2); 2 weights are not finite floating point numbers: 0.bias, '
        '1.bias')
    many = {f'n{i}': torch.zeros(1) for i in range(12)}
    assert str(misfits({
        **model.state_dict(),
        **many
    }, model)) == (
        '12 weights are not in the model: n0, n1, n2, n3, n4, n5, n6, n7, n8, '
        'n9, ...')


def test_the_hash_is_that_of_names_dtypes_shapes_and_values():
    model = nn.Linear(2, 3)
    found = {weights_hash(model)}
    found.add(weights_hash(nn.Sequential(model)))
    with torch.no_grad():
        model.bias[0] += 1e-6
    found.add(weights_hash(model))
    found.add(weights_hash(model.double()))
    assert len(found) == 4
    norm = nn.BatchNorm1d(3)
    before = weights_hash(norm)
    norm.num_batches_tracked += 1
    assert weights_hash(norm) == before
