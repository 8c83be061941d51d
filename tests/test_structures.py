# Copyright (c) sdd_mm contributors. All rights reserved.
import copy
import pickle

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from toy import PREPROCESSOR, batch, build, build_classifier, losses

from sdd_mm.models.recorders import TargetRecorder
from sdd_mm.structures import DataSampleBatch


def whole(samples=4, **kwargs):
    """The toy batch with all its labels in one data sample."""
    data = batch(samples, **kwargs)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    sample = DataSampleBatch(
        gt_label=labels,
        metainfo=dict(
            image_ids=np.arange(samples), view_ids=np.zeros(samples,
                                                            np.int64)))
    return dict(inputs=data['inputs'], data_samples=[sample])


def test_losses_are_those_of_single_samples():
    model = build()
    expected, found = losses(model, batch(6)), losses(model, whole(6))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_ids_stay_on_the_host():
    sample = whole()['data_samples'][0]
    for moved in (sample.to('meta'), sample.detach().to('meta')):
        assert type(moved) is DataSampleBatch
        assert moved.gt_label.device.type == 'meta'
        assert isinstance(moved.image_ids, np.ndarray)
        assert moved.image_ids.tolist() == [0, 1, 2, 3]
        assert moved.view_ids.dtype == np.int64


@pytest.mark.parametrize(
    'again',
    [copy.deepcopy, lambda sample: pickle.loads(pickle.dumps(sample))])
def test_copies(again):
    sample = whole()['data_samples'][0]
    found = again(sample)
    assert type(found) is DataSampleBatch
    assert torch.equal(found.gt_label, sample.gt_label)
    assert found.image_ids.tolist() == sample.image_ids.tolist()


def test_target_recorder():
    data = whole(5)
    recorder, model = TargetRecorder(), build_classifier()
    recorder.initialize(model)
    with recorder:
        model(data['inputs'].float(), data['data_samples'], mode='loss')
    expected = data['data_samples'][0].gt_label
    assert torch.equal(recorder.get_record_data(), expected)


def test_a_prediction_is_refused():
    data = whole()
    model = build_classifier().eval()
    with pytest.raises(ValueError, match=r'pred_score.*test_mode=True'):
        model(data['inputs'].float(), data['data_samples'], mode='predict')


@pytest.mark.parametrize('augments', [
    None,
    dict(augments=[dict(type='Mixup', alpha=1.0)], probs=[0.0]),
])
def test_scores_are_refused(augments):
    preprocessor = MODELS.build(
        dict(
            PREPROCESSOR,
            type='ClsDataPreprocessor',
            to_onehot=True,
            batch_augments=augments))
    with pytest.raises(ValueError, match='gt_score.*to_onehot.*augments'):
        preprocessor(whole(), training=True)


def test_mixup_is_no_silent_mistake():
    preprocessor = MODELS.build(
        dict(
            PREPROCESSOR,
            type='ClsDataPreprocessor',
            batch_augments=dict(augments=dict(type='Mixup', alpha=1.0))))
    with pytest.raises(IndexError):
        preprocessor(whole(), training=True)


LABELS = torch.tensor([1, 2])
IDS = np.array([3, 4])


@pytest.mark.parametrize('change, message', [
    (lambda s: s.set_pred_label(1), 'pred_label'),
    (lambda s: s.set_pred_score([0.1, 0.9]), 'pred_score'),
    (lambda s: setattr(s, 'pred_score', LABELS), 'pred_score'),
    (lambda s: s.set_gt_score(torch.eye(2)), 'gt_score'),
    (lambda s: s.set_gt_score([0.1, 0.9]), 'gt_score'),
    (lambda s: s.set_mask(np.ones(2)), 'mask'),
    (lambda s: s.set_gt_label(1), '1 entries, its gt_label 2'),
    (lambda s: setattr(s, 'gt_label', [1, 2]), 'must be a tensor'),
    (lambda s: setattr(s, 'gt_label', torch.eye(2)), r'tensor \(B,\)'),
    (lambda s: setattr(s, 'view_ids', IDS), 'must be metainfo'),
    (lambda s: s.set_metainfo(dict(view_ids=[1, 2])), 'int64 array'),
    (lambda s: s.set_metainfo(dict(view_ids=IDS.astype(np.int32))),
     'int64 array'),
    (lambda s: s.set_metainfo(dict(view_ids=np.arange(3))),
     '3 entries, its gt_label 2'),
])
def test_what_belongs_to_one_image_is_refused(change, message):
    sample = DataSampleBatch(gt_label=LABELS, metainfo=dict(image_ids=IDS))
    with pytest.raises(ValueError, match=message):
        change(sample)
    assert sample.gt_label.tolist() == [1, 2]


def test_other_fields_and_new_labels_are_taken():
    sample = DataSampleBatch(gt_label=LABELS, metainfo=dict(image_ids=IDS))
    sample.set_gt_label(LABELS + 1)
    sample.set_metainfo(dict(view_ids=IDS, num_classes=10))
    assert sample.gt_label.tolist() == [2, 3]
    assert isinstance(sample, DataSample)
