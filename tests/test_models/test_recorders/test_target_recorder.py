# Copyright (c) sdd_mm contributors. All rights reserved.
import pytest
import torch
from mmpretrain.structures import DataSample
from toy import batch, build, build_classifier, classifier, losses

from sdd_mm.models.recorders import TargetRecorder


def record(samples, **kwargs):
    recorder = TargetRecorder()
    model = build_classifier()
    recorder.initialize(model)
    with recorder:
        model(torch.rand(2, 3, 32, 32), samples, **kwargs)
    return recorder.get_record_data()


def test_integer_labels():
    samples = [DataSample().set_gt_label(label) for label in (3, 7)]
    assert record(samples, mode='loss').tolist() == [3, 7]


def test_scores_come_before_labels():
    samples = [
        DataSample().set_gt_label(0).set_gt_score(torch.eye(10)[label])
        for label in (3, 7)
    ]
    target = record(samples, mode='loss')
    torch.testing.assert_close(target, torch.eye(10)[[3, 7]])


@pytest.mark.parametrize('samples, message', [
    ([DataSample(), DataSample().set_gt_score(torch.ones(3))
      ], 'some .* have scores and some no label'),
    ([DataSample().set_gt_label([1, 2]),
      DataSample().set_gt_label(1)], '2 data samples have 3 labels'),
    (None, 'without data_samples'),
])
def test_what_is_not_one_label_per_image_is_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        record(samples, mode='tensor')


def test_mixup_of_the_base_config_reaches_images_and_target():
    augments = dict(augments=dict(type='Mixup', alpha=1.0))
    model = build(architecture=classifier(train_cfg=augments))
    assert model.data_preprocessor.batch_augments is not None
    plain = build()
    torch.manual_seed(0)
    data = model.data_preprocessor(batch(8), training=True)
    unmixed = plain.data_preprocessor(batch(8), training=True)
    assert not torch.allclose(data['inputs'], unmixed['inputs'])
    seen = {}
    loss = model.distiller.distill_losses['loss_sdd']
    loss.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    found = losses(model, batch(8))
    assert seen['target'].shape == (8, 10)
    assert ((seen['target'] > 0).sum(1) == 2).any()
    assert torch.isfinite(found['distill.loss_sdd'])
