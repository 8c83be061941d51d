# Copyright (c) sdd_mm contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from toy import build_classifier

from sdd_mm.models.recorders import ImageIndexRecorder
from sdd_mm.structures import DataSampleBatch


def record(samples):
    recorder = ImageIndexRecorder()
    model = build_classifier()
    recorder.initialize(model)
    with recorder:
        model(torch.rand(2, 3, 32, 32), samples, mode='loss')
    return recorder.get_record_data()


def labeled(**metainfo):
    return DataSample(metainfo=metainfo).set_gt_label(3)


def test_places_of_images():
    samples = [labeled(sample_idx=place) for place in (7, 2)]
    assert record(samples).tolist() == [7, 2]
    together = DataSampleBatch(
        gt_label=torch.tensor([1, 2]),
        metainfo=dict(image_ids=np.array([5, 0])))
    assert record([together]).tolist() == [5, 0]


def test_images_without_a_place_are_refused():
    with pytest.raises(ValueError, match="'sample_idx' in its meta_keys"):
        record([labeled(), labeled()])
