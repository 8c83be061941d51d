# Copyright (c) sdd_mm contributors. All rights reserved.
"""Small clips of a moving square as mmaction2 reads them, and its networks."""
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS as ENGINE_MODELS
from mmrazor.registry import MODELS
from PIL import Image

needs_mmaction = pytest.mark.skipif(
    importlib.util.find_spec('mmaction') is None,
    reason='needs mmaction2: docs/en/inputs.md#video says how to install it')

FRAMES, SIZE = 8, 48
STEPS = ((4, 0), (0, 4), (3, 3))
"""The classes: where the square moves from frame to frame."""
KD = dict(type='LogitLoss', criterion=dict(type='KDCriterion', tau=4.))
SDD = dict(
    type='ScaleDecoupledLoss',
    criterion=dict(type='KDCriterion', tau=4.),
    scales=(1, 2))
NORMALIZED = dict(
    type='ActionDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape='NCTHW')
OTHER_MEAN = dict(
    NORMALIZED, mean=[100., 110., 120.], std=[50., 60., 70.], to_rgb=True)


def write_clips(folder: Path, split: str, count: int, seed: int) -> None:
    """Write clips as frames and a list, as a RawframeDataset reads them."""
    draw, lines = np.random.default_rng(seed), []
    for number in range(count):
        label = number % len(STEPS)
        name = f'{split}_{number:03}'
        (folder / name).mkdir(parents=True)
        row, column = draw.integers(0, 12, size=2)
        color = draw.integers(128, 255, size=3)
        for frame in range(FRAMES):
            image = draw.integers(0, 64, size=(SIZE, SIZE, 3), dtype=np.uint8)
            top = row + frame * STEPS[label][0]
            left = column + frame * STEPS[label][1]
            image[top:top + 12, left:left + 12] = color
            Image.fromarray(image).save(folder / name /
                                        f'img_{frame + 1:05}.jpg')
        lines.append(f'{name} {FRAMES} {label}')
    (folder / f'{split}.txt').write_text('\n'.join(lines))


def recognizer(depth=18, classes=len(STEPS), **head) -> dict:
    """An I3D: a ResNet3d that is pooled over frames and positions."""
    return dict(
        type='Recognizer3D',
        backbone=dict(
            type='ResNet3d',
            depth=depth,
            pretrained=None,
            conv1_kernel=(3, 7, 7),
            base_channels=8,
            conv_cfg=dict(type='Conv3d'),
            zero_init_residual=False,
            norm_eval=False),
        cls_head=dict(
            dict(
                type='I3DHead',
                num_classes=classes,
                in_channels=64 * (1 if depth == 18 else 4),
                spatial_type='avg',
                dropout_ratio=0.5,
                topk=(1, ),
                average_clips='prob'), **head))


def distilling(loss: dict, teacher_ckpt=None, **changes) -> dict:
    """A recognizer of 50 layers teaches one of 18."""
    return dict(
        dict(
            _scope_='mmrazor',
            type='FrozenTeacherDistill',
            data_preprocessor=dict(NORMALIZED, _scope_='mmaction'),
            architecture=dict(recognizer(), _scope_='mmaction'),
            teacher=dict(
                recognizer(50),
                _scope_='mmaction',
                data_preprocessor=NORMALIZED),
            teacher_ckpt=teacher_ckpt,
            distiller=dict(
                type='SDDDistiller', distill_losses=dict(loss_distill=loss))),
        **changes)


def loader(folder: Path, split: str, batch_size=4) -> dict:
    """A dataloader of these clips."""
    return dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
        dataset=dict(
            type='RawframeDataset',
            ann_file=str(folder / f'{split}.txt'),
            data_prefix=dict(img=str(folder)),
            test_mode=split != 'train',
            pipeline=[
                dict(
                    type='SampleFrames',
                    clip_len=FRAMES,
                    frame_interval=1,
                    num_clips=1,
                    test_mode=split != 'train'),
                dict(type='RawFrameDecode'),
                dict(type='FormatShape', input_format='NCTHW'),
                dict(type='PackActionInputs')
            ]))


def write_config(path: Path, folder: Path, model: dict, epochs=2) -> Path:
    """The config of a short run with validation."""
    config = dict(
        default_scope='mmaction',
        model=model,
        train_dataloader=loader(folder, 'train'),
        val_dataloader=loader(folder, 'val'),
        val_evaluator=dict(type='AccMetric', metric_list=('top_k_accuracy', )),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(
            type='DeferredOptimWrapper',
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1),
            scalars=dict(type='DeferredScalarsHook'),
            labels=dict(type='LabelCheckHook'),
            finite_loss=dict(type='FiniteLossHook'),
            exact_resume=dict(type='ExactResumeHook')),
        custom_hooks=[
            dict(type='FrozenTeacherHook'),
            dict(type='SDDReportHook')
        ],
        randomness=dict(seed=0))
    path.write_text('\n'.join(f'{key} = {value!r}'
                              for key, value in config.items()))
    return path


def scalars(work_dir: Path) -> list:
    """What a run logged, a dict for each line."""
    path = next(work_dir.rglob('scalars.json'))
    return [json.loads(line) for line in path.read_text().splitlines()]


def network(**config):
    """A recognizer with random weights, also of its classifier."""
    torch.manual_seed(0)
    model = ENGINE_MODELS.build(dict(config, _scope_='mmaction'))
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    return model


def build(loss=SDD, seed=0, **changes):
    """A distillation whose teacher has no checkpoint."""
    torch.manual_seed(seed)
    changes.setdefault('allow_untrained_teacher', True)
    model = MODELS.build(distilling(loss, **changes))
    model.init_weights()
    return model.train()


def batch(size=4, frames=FRAMES):
    """Clips as the pipeline gives them, with their labels."""
    from mmaction.structures import ActionDataSample
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randint(
        256, (size, 1, 3, frames, SIZE, SIZE),
        generator=draw,
        dtype=torch.uint8)
    samples = [ActionDataSample().set_gt_label(n % 3) for n in range(size)]
    return dict(inputs=list(inputs), data_samples=samples)
