# Copyright (c) sdd_mm contributors. All rights reserved.
import os
import pickle

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

from sdd_mm.datasets import VerifiedCIFAR100


def scenes(**kwargs):
    config = dict(
        type='DigitScenes', split='train', num_scenes=40, pipeline=[])
    return DATASETS.build(dict(config, **kwargs))


def pixels(dataset):
    return np.stack([dataset[i]['img'] for i in range(len(dataset))])


def test_scenes_are_seeded_images_with_labels():
    first, again = scenes(), scenes()
    assert len(first) == 40 and len(first.metainfo['classes']) == 10
    assert pixels(first).shape == (40, 32, 32, 3)
    assert pixels(first).dtype == np.uint8
    assert np.array_equal(pixels(first), pixels(again))
    assert not np.array_equal(pixels(first), pixels(scenes(seed=1)))
    labels = {first[i]['gt_label'] for i in range(40)}
    assert labels <= set(range(10)) and len(labels) > 5


def test_train_and_test_are_made_of_disjoint_digits():
    digits = [scenes(split=split)._digits()[0] for split in ('train', 'test')]
    assert [len(split) for split in digits] == [1200, 597]
    seen = {digit.tobytes() for digit in digits[0]}
    assert not any(digit.tobytes() in seen for digit in digits[1])
    assert not np.array_equal(pixels(scenes()), pixels(scenes(split='test')))


def test_dominant_digit_is_the_largest_and_gives_the_label():
    alone = scenes(others=0, noise=0.0, num_scenes=200)
    images, labels = alone._digits()
    for i in range(0, 200, 20):
        item = alone[i]
        rows = np.flatnonzero(item['img'].any(axis=(1, 2)))
        assert 10 <= rows[-1] - rows[0] + 1 <= 17
        assert item['gt_label'] in labels


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}', )


@pytest.fixture
def small(monkeypatch):
    """CIFAR-100 with 10 images per class in place of 600."""
    monkeypatch.setattr(VerifiedCIFAR100, 'sizes', dict(train=500, test=500))


def write_cifar(root, change=None, protocol=2):
    """Files with CIFAR-100's content in another order."""
    folder = root / 'cifar-100-python'
    folder.mkdir(exist_ok=True)
    for split, size in VerifiedCIFAR100.sizes.items():
        entry = dict(
            data=np.zeros((size, 3072), np.uint8),
            fine_labels=[i % 100 for i in range(size)])
        if change and split == 'train':
            change(entry)
        (folder / split).write_bytes(pickle.dumps(entry, protocol))
    return dict(
        type='VerifiedCIFAR100',
        data_root=str(root),
        split='train',
        pipeline=[])


def test_cifar_by_content(tmp_path):
    config = write_cifar(tmp_path, protocol=5)
    dataset = DATASETS.build(dict(config, verify='content'))
    assert len(dataset) == 50000 and dataset[101]['gt_label'] == 1


def test_cifar_by_content_or_by_checksum(tmp_path, small):
    config = write_cifar(tmp_path)
    assert len(DATASETS.build(dict(config, verify='content'))) == 500
    with pytest.raises(RuntimeError, match="md5.*verify='content'"):
        DATASETS.build(config)


@pytest.mark.parametrize('change', [
    lambda entry: entry.update(data=entry['data'][:-1]),
    lambda entry: entry.update(data=entry['data'].astype(np.int16)),
    lambda entry: entry['fine_labels'].__setitem__(0, 5),
    lambda entry: entry['fine_labels'].__setitem__(0, 100),
    lambda entry: entry['fine_labels'].pop(),
    lambda entry: entry.pop('data'),
])
def test_content_that_is_not_cifar_is_refused(tmp_path, small, change):
    config = write_cifar(tmp_path, change)
    with pytest.raises(RuntimeError, match='is not CIFAR-100'):
        DATASETS.build(dict(config, verify='content'))


def test_content_that_would_run_code_does_not(tmp_path, small):
    ran = tmp_path / 'ran'
    config = write_cifar(tmp_path,
                         lambda entry: entry.update(more=Malicious(ran)))
    with pytest.raises(RuntimeError, match='train is not .*imports .*system'):
        DATASETS.build(dict(config, verify='content'))
    assert not ran.exists()
    # it would have
    pickle.loads((tmp_path / 'cifar-100-python' / 'train').read_bytes())
    assert ran.exists()


def test_content_that_would_import_does_not(tmp_path, small):
    """A module of NumPy runs a program when it is imported."""
    config = write_cifar(tmp_path)
    (tmp_path / 'cifar-100-python' /
     'train').write_bytes(b'cnumpy.f2py.__main__\nndarray\n.')
    with pytest.raises(RuntimeError, match='imports numpy.f2py.__main__'):
        DATASETS.build(dict(config, verify='content'))


def test_absent_cifar_says_where_and_what(tmp_path):
    with pytest.raises(RuntimeError, match='no train and test .*data_root'):
        DATASETS.build(
            dict(
                type='VerifiedCIFAR100',
                data_root=str(tmp_path),
                split='train',
                pipeline=[]))
    with pytest.raises(ValueError, match="'sha'"):
        DATASETS.build(
            dict(
                type='VerifiedCIFAR100', data_root=str(tmp_path),
                verify='sha'))
