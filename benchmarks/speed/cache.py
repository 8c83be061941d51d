# Copyright (c) sdd_mm contributors. All rights reserved.
"""P7: the price of distillation when the teacher has been asked before."""
import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS

from sdd_mm.teacher_cache import TeacherCache

from .measure import Result, interleave, ratio
from .trainers import Trainer, configure, describe, in_memory, started

PAIRS = dict(res8x4='res32x4_res8x4_cifar100', shuv1='res32x4_shuv1_cifar100')
METHODS = ('sd-kd', 'sd-dkd', 'sd-nkd')
EPOCHS = 240
# standard deviations of the teacher's logits that are compared
SPREADS = (1, 4, 16)


def run(options) -> Result:
    result = Result(
        'cache', 'With a warm teacher cache a step costs at most 10 % more '
        'than the student alone; a cold run of 240 epochs asks the teacher '
        'for at most 53 % of the views it sees; the losses differ by at most '
        '0.1 %: CIFAR-100, B 64.')
    result.claim(
        f'Cold run of {EPOCHS} epochs',
        0.53,
        cold(options),
        unit='teacher forwards / images seen')
    for student, pair in PAIRS.items():
        cfgs = {
            'alone':
            few_views(configure(f'vanilla/{student}_cifar100.py', options)),
            'warm':
            cached(configure(f'sdd/sd-kd_{pair}.py', options))
        }
        with started(cfgs) as trainers:
            cache = trainers['warm'].model.teacher_source
            if student == 'res8x4':
                result.notes.append(short_run(trainers['warm'], cache))
            cache.fill()
            if cache.store.count() != cache.store.num_rows:
                raise AssertionError(f'the cache is not warm: {cache}')
            found = interleave(trainers, options.rounds, 2 * options.steps)
        result.samples[student] = found
        result.claim(f'SD-KD to {student}, warm cache / student alone', 1.1,
                     **ratio(found['warm'], found['alone']))
    for method in METHODS:
        result.claim(
            method.upper(),
            1e-3,
            difference(f'sdd/{method}_{PAIRS["res8x4"]}.py', options),
            unit='largest relative difference, cached and live loss')
    result.notes += [
        'The cold run is simulated: the data set draws its views for '
        f'{EPOCHS} epochs, and a view counts the first time.',
        'Both runs of a pair have their images in memory. Steps are timed '
        'without the random crop, which leaves 2 views of each image: the '
        'teacher then fills the cache in seconds, and every row is in memory. '
        'Reading a cache from a disk for the first time takes longer.',
        'The losses are compared with logits of standard deviation '
        f'{", ".join(map(str, SPREADS))}, stored as float16.',
        describe(options)
    ]
    return result


def limit(dataset: Config, count: int) -> None:
    """Leave a data set's first images only."""
    generated = dataset.type == 'GeneratedImages'
    dataset.update({'num_images' if generated else 'indices': count})


def few_views(cfg: Config) -> Config:
    """The run from memory, on few images and without crops."""
    cfg = in_memory(cfg)
    data = cfg.train_dataloader.dataset.dataset
    data.pipeline = [
        step for step in data.pipeline if step['type'] != 'RandomCrop'
    ]
    limit(data, 4 * cfg.train_dataloader.batch_size)
    return cfg


def cached(cfg: Config) -> Config:
    """The same with a teacher cache."""
    cfg = few_views(cfg)
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', []),
        dict(type='TeacherCacheHook')
    ]
    return cfg


def cold(options) -> float:
    """Share of the views in a long run that are seen for the first time."""
    cfg = in_memory(configure('vanilla/res8x4_cifar100.py', options))
    data = cfg.train_dataloader.dataset
    limit(data.dataset, 100 if options.tiny else 2000)
    torch.manual_seed(0)
    dataset = DATASETS.build(data)
    seen = np.zeros((len(dataset), dataset.num_views), bool)
    images = list(range(len(dataset)))
    for _ in range(EPOCHS):
        # as a dataloader does; the batches hold the ids of their views
        for first in range(0, len(images), 500):
            batch = dataset.__getitems__(images[first:first + 500])
            (sample, ) = batch['data_samples']
            seen[sample.image_ids, sample.view_ids] = True
    return float(seen.sum() / (len(dataset) * EPOCHS))


def short_run(trainer: Trainer, cache: TeacherCache) -> str:
    """Three epochs from an empty cache, beside what is expected."""
    dataset = trainer.runner.train_dataloader.dataset
    epochs, batches = 3, len(trainer.runner.train_dataloader)
    while trainer.runner.iter < epochs * batches:
        trainer()
    views = dataset.num_views
    asked = cache.store.count() / (epochs * len(dataset))
    expected = views * (1 - (1 - 1 / views)**epochs) / epochs
    return (f'A real run of {epochs} epochs of {len(dataset)} images with '
            f'{views} views each asked the teacher for {asked:.1%} of the '
            f'images; {expected:.1%} are expected.')


def difference(name: str, options) -> float:
    """Largest relative difference between a loss with the cache and without.

    The student is the same and sees the same views. The teacher's classifier
    is scaled, since rounding matters more where logits are large.
    """
    worst = 0.0
    for spread in SPREADS:
        with started(dict(run=cached(configure(name, options)))) as trainers:
            runner = trainers['run'].runner
            losses = cached_and_live(runner.model,
                                     runner.train_dataloader.dataset, spread)
        live, *others = losses
        worst = max(worst, *(abs(loss / live - 1) for loss in others))
    return worst


@torch.no_grad()
def cached_and_live(model, dataset, spread: float) -> list:
    """The loss of one batch: live, from a cold cache, from a warm one."""
    images = np.arange(min(64, len(dataset)))
    batch = dataset.batch(images, images % dataset.num_views)
    data = model.data_preprocessor(batch, training=True)
    scale = spread / model.teacher(data['inputs'], mode='tensor').std()
    for parameter in model.teacher.head.parameters():
        parameter *= scale
    model.teacher_source = model.teacher_source.live
    cache = TeacherCache(model, dataset)
    losses = []
    for source in (model.teacher_source, cache, cache):
        model.teacher_source = source
        losses.append(model(**data, mode='loss')['distill.loss_sdd'].item())
    return losses
