# Copyright (c) sdd_mm contributors. All rights reserved.
"""The same bytes as the pipeline's, drawn by the same law."""
import copy
import math
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, RepeatDataset
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets import BaseDataset, RandomCrop
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch.utils._python_dispatch import TorchDispatchMode
from toy import algorithm

from sdd_mm.datasets import InMemoryDataset, in_memory
from sdd_mm.structures import DataSampleBatch

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PACK = dict(type='PackInputs')
FLIP = dict(type='RandomFlip', prob=0.5, direction='horizontal')
CROP = dict(type='RandomCrop', crop_size=32, padding=4)
CIFAR = [CROP, FLIP, PACK]


def generated(*steps, count=3, size=(32, 32), **kwargs):
    return dict(
        type='GeneratedImages',
        num_images=count,
        num_classes=10,
        image_size=size,
        pipeline=list(steps or CIFAR),
        serialize_data=False,  # which takes a garbage collection
        **kwargs)


def in_ram(dataset, **kwargs):
    return DATASETS.build(
        dict(type='InMemoryDataset', dataset=dataset, device='cpu', **kwargs))


def files(tmp_path, steps, sizes=((60, 40), (30, 50), (256, 300))):
    """Images of several sizes in files, as CUB's are."""
    for index, size in enumerate(sizes):
        image = np.random.default_rng(index).integers(
            256, size=(*size, 3), dtype=np.uint8)
        mmcv.imwrite(image, str(tmp_path / f'{index % 2}' / f'{index}.png'))
    return dict(
        type='CustomDataset',
        data_root=str(tmp_path),
        pipeline=list(steps),
        serialize_data=False)


def loader(dataset, batch_size=4, sampler=None, **kwargs):
    return Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=batch_size,
            sampler=sampler or dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='batch_or_collate'),
            **dict(dict(num_workers=0), **kwargs)),
        seed=0)


def assert_views_are_the_pipelines(config, monkeypatch, views=None, images=3):
    """Every byte and every field of the data samples."""
    reference, dataset = DATASETS.build(config), in_ram(config)
    assert len(dataset) == len(reference)
    table = dataset.views()
    assert len({tuple(row) for row in table}) == dataset.num_views
    for view in range(dataset.num_views) if views is None else views:
        top, left, flip = map(int, table[view])
        for step in reference.pipeline.transforms:
            if isinstance(step, RandomCrop):
                step.rand_crop_params = (
                    lambda image, offset=(top, left, *step.crop_size): offset)
            if isinstance(step, RandomFlip):
                step._choose_direction = (lambda: 'horizontal'
                                          if flip else None)
        monkeypatch.setattr(dataset, '_draw',
                            lambda indices: np.full(len(indices), view))
        found = dataset.batch(range(images), [view] * images)
        sample, = found['data_samples']
        assert found['inputs'].dtype == torch.uint8
        assert sample.view_ids.tolist() == [view] * images
        for index in range(images):
            expected, single = reference[index], dataset[index]
            assert torch.equal(found['inputs'][index], expected['inputs'])
            assert torch.equal(single['inputs'], expected['inputs'])
            assert dict(single['data_samples'].all_items()) == dict(
                expected['data_samples'].all_items())
            assert sample.gt_label[index] == expected['data_samples'].gt_label


@pytest.mark.parametrize('steps', [
    CIFAR,
    [PACK],
    [FLIP, PACK],
    [CROP, PACK],
    [dict(FLIP, prob=1.0), PACK],
    [dict(FLIP, prob=0.0), PACK],
    [dict(CROP, crop_size=(30, 34), padding=(1, 2)), FLIP, PACK],
    [dict(CROP, crop_size=33, padding=(0, 1, 3, 2), pad_val=7), FLIP, PACK],
    [dict(CROP, padding=1, pad_val=(9, 8, 7)), PACK],
    [dict(type='RandomCrop', crop_size=30), FLIP, PACK],
    [dict(type='RandomCrop', crop_size=32), PACK],
])
def test_every_view_of_an_array(steps, monkeypatch):
    assert_views_are_the_pipelines(generated(*steps), monkeypatch)


def test_views_of_the_cub_config(tmp_path, monkeypatch):
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/cub200_bs64_224.py')
    config = files(tmp_path, cfg.train_pipeline)
    assert_views_are_the_pipelines(config, monkeypatch,
                                   [0, 1, 65, 66, 1088, 2111, 2176, 2177])
    assert in_ram(config).num_views == 33 * 33 * 2
    config['pipeline'] = cfg.test_pipeline
    assert_views_are_the_pipelines(config, monkeypatch)


def test_views_of_the_demo(monkeypatch):
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/digit_scenes_bs64.py')
    config = dict(cfg.train_dataloader.dataset, num_scenes=5)
    assert_views_are_the_pipelines(config, monkeypatch)


def test_gray_images(tmp_path, monkeypatch):
    load = dict(type='LoadImageFromFile', color_type='grayscale')
    config = files(tmp_path, [
        load,
        dict(type='Resize', scale=(20, 16)),
        dict(type='RandomCrop', crop_size=16, padding=2), FLIP, PACK
    ])
    assert_views_are_the_pipelines(config, monkeypatch)


@pytest.mark.parametrize('size, tops, lefts', [(32, 9, 9), ((31, 33), 10, 8)])
def test_number_of_a_view(size, tops, lefts):
    dataset = in_ram(generated(dict(CROP, crop_size=size), FLIP, PACK))
    views = dataset.views()
    assert dataset.num_views == len(views) == tops * lefts * 2
    for view, (top, left, flip) in enumerate(views):
        assert view == (top * lefts + left) * 2 + flip
    assert views.max(axis=0).tolist() == [tops - 1, lefts - 1, 1]
    views[:] = 0
    assert dataset.views().any()


# --- the distribution of views ---------------------------------------------


@DATASETS.register_module(force=True)
class Positions(BaseDataset):
    """An image whose pixels tell where they are."""

    def __init__(self, **kwargs):
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self):
        rows, columns = np.indices((32, 32), dtype=np.uint8)
        image = np.stack([rows, columns, rows], axis=-1)
        return [dict(img=image, gt_label=0)]


def decode(image):
    """The view of an image of :class:`Positions`, from its middle."""
    row, column, right = (int(image[0, 16, 16]), int(image[1, 16, 16]),
                          int(image[1, 16, 17]))
    flip = int(right < column)
    return ((row - 16 + 4) * 9 + column - (15 if flip else 16) + 4) * 2 + flip


def chi_square(counts, law):
    """How many standard deviations the statistic is above its mean."""
    expected = counts.sum() * law
    statistic = ((counts - expected)**2 / expected).sum()
    freedom = len(counts) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize('prob', [0.5, 0.2])
def test_law_is_that_of_the_pipeline(prob):
    config = dict(
        type='Positions',
        pipeline=[CROP, dict(FLIP, prob=prob), PACK],
        serialize_data=False)
    reference, dataset = DATASETS.build(config), in_ram(config)
    draws = 20 * dataset.num_views
    np.random.seed(0)
    theirs = np.array([decode(reference[0]['inputs']) for _ in range(draws)])
    torch.manual_seed(0)
    batches = [dataset.__getitems__([0] * 90) for _ in range(draws // 90)]
    ours = np.concatenate(
        [batch['data_samples'][0].view_ids for batch in batches])
    assert [decode(image) for image in batches[0]['inputs']] == list(ours[:90])

    law = np.tile([1 - prob, prob], 81) / 81
    counts = [
        np.bincount(drawn, minlength=len(law)) for drawn in (theirs, ours)
    ]
    assert [len(count) for count in counts] == [162, 162]
    for count in counts:
        assert abs(chi_square(count, law)) < 3.5
    # two draws in a row are independent: their tops, lefts and flips
    for values, size in ((ours // 18, 9), (ours // 2 % 9, 9), (ours % 2, 2)):
        pairs = np.bincount(values[:-1] * size + values[1:], minlength=size**2)
        single = np.bincount(values, minlength=size) / len(values)
        assert abs(chi_square(pairs, np.outer(single, single).ravel())) < 4
    # another law would be found out
    assert chi_square(np.bincount(ours % 144, minlength=162), law) > 30


def stream(dataset, epochs=1, disturb=False, **kwargs):
    """The ids of images and views, batch by batch."""
    batches = loader(dataset, **kwargs)
    found = []
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)
        for batch in batches:
            sample, = batch['data_samples']
            found.append(
                list(zip(sample.image_ids.tolist(), sample.view_ids.tolist())))
            if disturb:
                torch.rand(7), np.random.rand(3)
    return found


def test_one_seed_is_one_stream():
    config, found = generated(count=40), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        dataset = in_ram(config)
        found.append(stream(dataset, 2, disturb=len(found) == 1))
    assert found[0] == found[1]
    assert [[i for i, _ in batch] for batch in found[0]
            ] == [[i for i, _ in batch] for batch in found[2]]
    assert found[0] != found[2]


def test_ranks_draw_their_own_views(monkeypatch):
    config, found = generated(count=40), []
    for rank in (0, 1):
        monkeypatch.setattr(in_memory, 'get_rank', lambda: rank)
        torch.manual_seed(0)
        found.append([v for batch in stream(in_ram(config)) for _, v in batch])
    assert found[0] != found[1]


def test_epochs_differ_and_each_has_every_image_once():
    batches = stream(in_ram(generated(count=40)), epochs=3)
    epochs = [sum(batches[i:i + 10], []) for i in (0, 10, 20)]
    for epoch in epochs:
        assert sorted(i for i, _ in epoch) == list(range(40))
    views = [dict(epoch) for epoch in epochs]
    same = sum(views[0][i] == views[1][i] for i in range(40))
    assert same < 10 and views[1] != views[2]
    # the stream is not the one that shuffles
    order = torch.randperm(
        40, generator=torch.Generator().manual_seed(0)).tolist()
    assert [i for i, _ in epochs[0]] == order


def test_workers_draw_anew_every_epoch_and_by_the_seed():
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(
            stream(in_ram(generated(count=16)), epochs=2, num_workers=2))
    assert found[0] == found[1]
    views = [[v for batch in part for _, v in batch]
             for part in (found[0][:4], found[0][4:])]
    assert views[0] != views[1]
    assert views[0][:4] != views[0][4:8]  # two workers


# --- loaders and runs ------------------------------------------------------


def test_two_ranks_share_the_images(monkeypatch):
    dataset, found = in_ram(generated(count=10)), []
    for rank in (0, 1):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda:
                            (rank, 2))
        sampler = DefaultSampler(dataset, shuffle=True, seed=0)
        batches = list(loader(dataset, 2, sampler=sampler, drop_last=True))
        assert [len(batch['inputs']) for batch in batches] == [2, 2]
        found += [
            index for batch in batches
            for index in batch['data_samples'][0].image_ids
        ]
    assert len(set(found)) == 8


def test_last_batch_is_shorter_or_dropped():
    dataset = in_ram(generated(count=10))
    sizes = [len(batch['inputs']) for batch in loader(dataset)]
    assert sizes == [4, 4, 2]
    sizes = [len(b['inputs']) for b in loader(dataset, drop_last=True)]
    assert sizes == [4, 4]


def test_a_slice_of_the_data_and_single_samples():
    dataset = in_ram(generated(count=10))
    batches = list(loader(dataset, num_batch_per_epoch=1))
    assert [len(batch['inputs']) for batch in batches] == [4]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batches = list(
            loader(
                dict(
                    type='RepeatDataset',
                    times=2,
                    dataset=dict(
                        type='InMemoryDataset',
                        dataset=generated(count=10),
                        device='cpu'))))
    assert len(batches) == 5
    assert batches[0]['inputs'].shape == (4, 3, 32, 32)
    assert [type(s) for s in batches[0]['data_samples']] == [DataSample] * 4
    assert torch.equal(
        copy.deepcopy(dataset)[-1]['data_samples'].gt_label,
        dataset[9]['data_samples'].gt_label)
    with pytest.raises(IndexError):
        dataset[10]


def train(config, test, folder, wrap):
    """Losses and accuracies of two epochs."""
    loaders = []
    for dataset, extra in ((config, dict()), (test, dict(test_mode=True))):
        collate = 'default_collate'
        if wrap:
            dataset = dict(
                type='InMemoryDataset',
                device='cpu',
                dataset=dict(dataset, **extra))
            collate = 'batch_or_collate'
        loaders.append(
            dict(
                dataset=dataset,
                batch_size=25,
                num_workers=0,
                collate_fn=dict(type=collate),
                sampler=dict(type='DefaultSampler', shuffle=not extra)))
    runner = Runner(
        model=algorithm(),
        work_dir=str(folder),
        train_dataloader=loaders[0],
        val_dataloader=loaders[1],
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy'),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        default_hooks=dict(checkpoint=None),
        default_scope='mmpretrain',
        randomness=dict(seed=3),
        experiment_name=folder.name)
    found = []
    step, validate = runner.model.train_step, runner.val_loop.run
    runner.model.train_step = lambda *args, **kwargs: found.append(
        step(*args, **kwargs)) or found[-1]
    metrics = []
    runner.val_loop.run = lambda: metrics.append(validate()) or metrics[-1]
    runner.train()
    return found, metrics


def test_a_run_is_the_run_from_files(tmp_path):
    """Where there is one view, to the last bit."""
    scenes = [
        dict(
            type='DigitScenes', split=split, num_scenes=count, pipeline=[PACK])
        for split, count in (('train', 50), ('test', 30))
    ]
    losses, metrics = train(*scenes, tmp_path / 'files', wrap=False)
    found, found_metrics = train(*scenes, tmp_path / 'memory', wrap=True)
    assert len(losses) == len(found) == 4 and metrics == found_metrics
    assert metrics[0]['accuracy/top1'] > 0
    for expected, values in zip(losses, found):
        assert expected.keys() == values.keys()
        assert all(torch.equal(expected[k], values[k]) for k in expected)


def test_in_test_mode_each_image_has_a_sample(tmp_path):
    load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(8, 8))]
    config = dict(files(tmp_path, [*load, PACK]), test_mode=True)
    reference = DATASETS.build(config)
    batch, = loader(
        in_ram(config), sampler=dict(type='DefaultSampler', shuffle=False))
    assert [type(s) for s in batch['data_samples']] == [DataSample] * 3
    for index, sample in enumerate(batch['data_samples']):
        expected = reference[index]
        assert torch.equal(batch['inputs'][index], expected['inputs'])
        assert sample.sample_idx == index
        assert dict(sample.all_items()) == dict(
            expected['data_samples'].all_items())
    train_mode = in_ram(dict(config, test_mode=False)).__getitems__([0, 1])
    assert type(train_mode['data_samples'][0]) is DataSampleBatch


def test_fields_of_the_data_set():
    dataset = in_ram(generated(metainfo=dict(classes=list('abcdefghij'))))
    assert dataset.metainfo['classes'][1] == dataset.CLASSES[1] == 'b'
    labels = dataset.get_gt_labels().tolist()
    assert labels == dataset.dataset.get_gt_labels().tolist()
    assert dataset.get_cat_ids(1) == [labels[1]]
    assert dataset.get_data_info(2)['sample_idx'] == 2
    assert not dataset.test_mode


def test_fingerprint_tells_images_and_views_apart():
    base = in_ram(generated()).fingerprint
    assert len(base) == 64 and int(base, 16)
    assert in_ram(
        generated(
            dict(CROP, padding=(4, 4), pad_val=(0, 0, 0)),
            dict(FLIP, prob=0.3), PACK)).fingerprint == base
    others = [
        generated(count=2),
        generated(size=(32, 34)),
        generated(dict(CROP, crop_size=31), FLIP, PACK),
        generated(dict(CROP, padding=5), FLIP, PACK),
        generated(dict(CROP, padding=(4, 4, 4, 3)), FLIP, PACK),
        generated(dict(CROP, pad_val=1), FLIP, PACK),
        generated(dict(CROP, pad_val=(1, 1, 1)), FLIP, PACK),
        generated(CROP, PACK),
        generated(CROP, dict(FLIP, prob=1.0), PACK),
        generated(FLIP, PACK),
        generated(PACK),
    ]
    found = {in_ram(other).fingerprint for other in others}
    assert len(found) == len(others) and base not in found
    changed = in_ram(generated())
    changed._images[2, 1, 20, 20] += 1
    assert changed.fingerprint != base
    changed = in_ram(generated())
    changed._labels += 1
    changed._images[:, :, [0, -1]] += 1  # padding is in the settings
    changed._images[:, :, :, [0, -1]] += 1
    assert changed.fingerprint == base


# --- what is refused -------------------------------------------------------


@pytest.mark.parametrize('steps, message', [
    ([dict(type='RandomResizedCrop', scale=8), PACK], 'RandomResizedCrop'),
    ([dict(type='ColorJitter', brightness=0.1), PACK], 'ColorJitter'),
    ([dict(type='RandomErasing'), PACK], 'RandomErasing'),
    ([CROP, FLIP, dict(type='Resize', scale=(8, 8)), PACK], 'RandomCrop'),
    ([FLIP, CROP, PACK], 'RandomFlip'),
    ([CROP, CROP, PACK], 'RandomCrop'),
    ([dict(FLIP, direction='vertical'), PACK], 'flips must be horizontal'),
    ([dict(FLIP, prob=[0.5], direction=['horizontal']), PACK
      ], 'flips must be horizontal'),
    ([dict(CROP, padding_mode='reflect'), PACK], 'padding_mode'),
    ([dict(CROP, pad_if_needed=True), PACK], 'pad_if_needed'),
    ([dict(CROP, crop_size=41), PACK], 'larger than images of 40 x 40'),
    ([CROP, FLIP], 'must end in PackInputs'),
    ([dict(PACK, algorithm_keys=['x'])], 'PackInputs.*images and labels'),
])
def test_views_that_are_no_discrete_set(steps, message):
    with pytest.raises(ValueError, match=message):
        in_ram(generated(*steps))


class Odd(BaseDataset):
    """Two images, the second one as given."""

    def __init__(self, **info):
        self.info = info
        super().__init__(ann_file='', pipeline=[PACK], lazy_init=True)

    def load_data_list(self):
        good = dict(img=np.zeros((4, 4, 3), np.uint8), gt_label=1)
        return [good, {**good, **self.info}]


@pytest.mark.parametrize('info, message', [
    (dict(img=np.zeros((4, 5, 3), np.uint8)), 'image 1 .*one size'),
    (dict(img=np.zeros((4, 4, 3), np.float32)), 'image 1 .*bytes'),
    (dict(img=torch.zeros(3, 4, 4)), 'image 1 .*bytes'),
    (dict(gt_label=[1, 2]), 'image 1 .*one gt_label'),
    (dict(gt_label=None), 'image 1 .*one gt_label'),
    (dict(gt_score=[1.0, 0.0]), 'image 1 .*one gt_label'),
])
def test_images_that_do_not_fit(info, message):
    with pytest.raises(ValueError, match=message):
        InMemoryDataset(Odd(**info), device='cpu')


def test_an_unreadable_image(tmp_path):
    config = files(
        tmp_path, [dict(type='LoadImageFromFile', ignore_empty=True), PACK],
        sizes=((8, 8), (8, 8)))
    (tmp_path / '1' / '1.png').write_bytes(b'')
    with pytest.raises(ValueError, match='LoadImageFromFile returned nothing'):
        in_ram(config)


def test_other_mistakes(monkeypatch):
    repeated = RepeatDataset(DATASETS.build(generated()), times=2)
    with pytest.raises(ValueError, match='RepeatDataset.*around'):
        InMemoryDataset(repeated)
    with pytest.raises(ValueError, match="device.*'tpu'"):
        InMemoryDataset(generated(), device='tpu')
    dataset = in_ram(generated())
    for images, views in (([3], [0]), ([-1], [0]), ([0], [162]), ([[0]], [0])):
        with pytest.raises(IndexError, match='got the positions'):
            dataset.batch(images, views)
    with pytest.raises(ValueError, match='2 images and 1 views'):
        dataset.batch([0, 1], [0])
    monkeypatch.setattr(in_memory, '_free_memory', lambda device: 1000)
    with pytest.raises(
            MemoryError, match='need 0.01.* MB.*free.*InMemoryDataset'):
        in_ram(generated())


def test_loading_can_wait_for_full_init(monkeypatch):
    monkeypatch.setattr(InMemoryDataset, '_read',
                        lambda *args: pytest.fail('it was read'))
    assert in_ram(generated(), lazy_init=True).metainfo is not None


class Threads(TorchDispatchMode):
    """How many threads operators may take, by their names."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found[func.overloadpacket.__name__] = torch.get_num_threads()
        return func(*args, **kwargs or {})


def test_a_batch_is_made_on_one_thread():
    """Several wait for each other where the cores are busy."""
    dataset = in_ram(generated())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Threads() as threads:
            dataset.batch([0, 1], [0, 1])
        used = [threads.found[name] for name in ('index', 'flip', 'where')]
        assert used == [1] * 3 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
