# Copyright (c) sdd_mm contributors. All rights reserved.
"""A real run of a second, as MMEngine runs it or as we do."""
import copy
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from torch import nn
from toy import PREPROCESSOR

SCENES = dict(
    type='DigitScenes',
    split='train',
    num_scenes=24,
    serialize_data=False,  # it collects the garbage of all other tests
    pipeline=[dict(type='PackInputs')])
HEAD = dict(
    type='LinearClsHead',
    num_classes=10,
    in_channels=3 * 4 * 4,
    cal_acc=True,
    topk=(1, ),
    loss=dict(type='CrossEntropyLoss'))
SGD = dict(type='SGD', lr=0.05, momentum=0.9)


@MODELS.register_module(force=True)
class Pooled(BaseModel):
    """MMPretrain's linear head on an image of 4 x 4 pixels, to be quick."""

    def __init__(self):
        super().__init__(
            data_preprocessor=dict(
                PREPROCESSOR, type='mmpretrain.ClsDataPreprocessor'))
        self.head = PRETRAIN_MODELS.build(HEAD)
        self.pool = nn.AvgPool2d(8)

    def forward(self, inputs, data_samples, mode):
        features = (self.pool(inputs).flatten(1), )
        return getattr(self.head, mode)(features, data_samples)


def loader(split='train', shuffle=True):
    return dict(
        batch_size=4,
        num_workers=0,
        dataset=dict(SCENES, split=split),
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        collate_fn=dict(type='default_collate'))


def runner(work_dir, ours=True, epochs=2, wrapper=None, hooks=(), **kwargs):
    """A run of six iterations an epoch, ours or MMEngine's own."""
    config = dict(
        model=dict(type='mmengine.Pooled'),
        work_dir=str(work_dir),
        experiment_name='/'.join(Path(work_dir).parts[-2:]).replace('/', '_'),
        default_scope='mmpretrain',
        train_dataloader=loader(),
        optim_wrapper=dict(
            dict(type='DeferredOptimWrapper' if ours else 'OptimWrapper'),
            optimizer=SGD,
            **wrapper or dict(clip_grad=dict(max_norm=1.))),
        param_scheduler=dict(type='LinearLR', by_epoch=False, end=9),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=2, ignore_last=False)),
        custom_hooks=list(hooks),
        randomness=dict(seed=0))
    if ours:
        config['default_hooks']['scalars'] = dict(type='DeferredScalarsHook')
    config.update(kwargs)
    return Runner.from_cfg(ConfigDict(copy.deepcopy(config)))


def validated(**kwargs):
    return dict(
        kwargs,
        val_dataloader=loader('test', False),
        val_evaluator=dict(type='Accuracy', topk=(1, )),
        val_cfg=dict())
