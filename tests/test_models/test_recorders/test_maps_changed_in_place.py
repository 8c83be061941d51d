# Copyright (c) sdd_mm contributors. All rights reserved.
"""A network that changes the recorded map in place, as torchvision's DenseNet
does with a functional ReLU."""
import torch
from torch import nn
from toy import PREPROCESSOR, batch, build, sdd_loss


class Net(nn.Module):

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=4)
        self.fc = nn.Linear(6, 10)

    def forward(self, images):
        found = self.body(images)
        found.relu_()
        return self.fc(found.mean((2, 3)))


def test_cells_stay_those_of_the_whole_forward_pass():
    """The teacher's pass may not end at the map."""
    torch.manual_seed(0)
    model = build(
        teacher=dict(
            type='ModuleClassifier',
            num_classes=10,
            module=Net(),
            data_preprocessor=PREPROCESSOR),
        distiller=dict(
            type='SDDDistiller',
            teacher_recorders=dict(
                feature_head=dict(
                    type='FeatureHead',
                    feature='backbone.net.body',
                    head='backbone.net.fc')),
            distill_losses=dict(loss_sdd=sdd_loss()))).train()
    data = model.data_preprocessor(batch(4), training=True)
    with torch.no_grad():
        own = model.teacher(data['inputs'])
    for _ in range(3):
        record = model.teacher_source.record(data['inputs'],
                                             data['data_samples'])
        assert record.feature.min() == 0
        torch.testing.assert_close(record.logits(), own)
        model.distiller.reset_records()
