# Copyright (c) sdd_mm contributors. All rights reserved.
"""Labels and names of classes that would mean something else, and images."""
import json
import logging
import re
import shutil
from io import StringIO

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from PIL import Image
from toy import build_classifier

from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight.classes import Classes
from sdd_mm.engine.preflight.data import check_data
from sdd_mm.engine.preflight.same_classes import check_checkpoint

NAMES = 'cat', 'dog', 'owl'
TRAIN, VAL, TEST = 'train_dataloader', 'val_dataloader', 'test_dataloader'
MODEL = build_classifier(num_classes=3)


class Data:
    """Images of three animals in folders, and a config that reads them."""

    def __init__(self, root):
        self.root = root
        for split, count in (('train', 4), ('val', 2)):
            for name in NAMES:
                (root / split / name).mkdir(parents=True)
                for index in range(count):
                    self.image(f'{split}/{name}/{index}.png')
        self.cfg = ConfigDict({
            f'{split}_dataloader':
            dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='CustomDataset',
                    data_root=str(root / split),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='PackInputs')
                    ]))
            for split in ('train', 'val')
        })

    def image(self, path, mode='RGB', **kwargs):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **kwargs)
        return path

    def set(self, split, **kwargs):
        self.cfg[f'{split}_dataloader'].dataset.update(kwargs)

    def both(self, **kwargs):
        self.set('train', **kwargs)
        self.set('val', **kwargs)

    def annotate(self, split, line='{name}/{index}.png {label}\n', first=0):
        """Read a list instead of the folders."""
        text = ''.join(
            line.format(name=path.parent.name, index=path.stem, label=label)
            for label, name in enumerate(NAMES, first)
            for path in sorted((self.root / split / name).iterdir()))
        return self.write(split, text)

    def write(self, split, text, encoding='utf-8', **kwargs):
        path = self.root / f'{split}.txt'
        path.write_bytes(text.encode(encoding))
        self.set(split, ann_file=str(path), **kwargs)

    def json(self, split, labels):
        infos = [
            dict(img_path=f'{name}/0.png', gt_label=label)
            for name, label in zip(NAMES, labels)
        ]
        path = self.root / f'{split}.json'
        path.write_text(json.dumps(dict(metainfo={}, data_list=infos)))
        self.cfg[f'{split}_dataloader'].dataset = dict(
            type='BaseDataset',
            data_root=str(self.root / split),
            ann_file=str(path),
            pipeline=self.cfg[TRAIN].dataset.pipeline)

    def test(self, **kwargs):
        self.cfg[TEST] = dict(
            self.cfg[VAL], dataset=dict(self.cfg[VAL].dataset, **kwargs))

    def check(self, fields=(TRAIN, VAL), tested=None):
        """What is found, and what is logged."""
        log = StringIO()
        handler = logging.StreamHandler(log)
        handler.setLevel(logging.WARNING)
        logger = MMLogger.get_current_instance()
        logger.addHandler(handler)
        try:
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                _, found = check_data(self.cfg, MODEL, fields, tested)
        finally:
            logger.removeHandler(handler)
        return found, log.getvalue()


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def folds(data, seed=None):
    """Four folds of the training folders, the third to validate."""
    dataset = data.cfg[TRAIN].dataset
    for field, test_mode in ((TRAIN, False), (VAL, True)):
        data.cfg[field].dataset = dict(
            type='KFoldDataset',
            num_splits=3,
            fold=2,
            seed=seed,
            test_mode=test_mode,
            dataset=dataset)


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


# what is done to the data, and what the message names
WRONG = {
    # folders
    'an empty hidden folder of classes':
    (lambda data: (data.root / 'val/.ipynb_checkpoints').mkdir(),
     'val_dataloader.* hidden folder .*val/.ipynb_checkpoints as a class: '
     'remove it'),
    'a hidden folder among the images of a class':
    (lambda data: data.image('train/dog/.thumbs/0.png'),
     'hidden folder .*dog/.thumbs as images of class dog: remove it'),
    'a hidden folder further down':
    (lambda data: data.image('train/dog/a/.b/c/0.png'),
     'hidden folder .*dog/a/.b/c as images of class dog'),
    'a class that validation lacks':
    (lambda data: shutil.rmtree(data.root / 'val/dog'),
     'val_dataloader.dataset must have the class folders of train_.*no folder '
     'dog: create it, even if it stays empty .mkdir .*val/dog.'),
    'a class that only validation has':
    (lambda data: data.image('val/ant/0.png'),
     'has a folder ant, .*rename or remove it'),
    'another spelling of a folder':
    (lambda data: (data.root / 'val/dog').rename(data.root / 'val/Dog'),
     "'cat' is class 0 in .*train .*class 1 in the folders of .*val"),
    'a class without training images':
    (lambda data:
     [path.unlink() for path in (data.root / 'train/dog').iterdir()],
     'train_dataloader.dataset: class folders .* are empty: dog'),
    'images that are not read': (lambda data: [
        path.rename(path.with_suffix('.webp'))
        for path in (data.root / 'train/dog').iterdir()
    ], r'are empty: dog \(4 .webp\).*train_dataloader.dataset.extensions'),
    'a test without a class': (lambda data: [
        shutil.copytree(data.root / 'val', data.root / 'test'),
        shutil.rmtree(data.root / 'test/cat'),
        data.test(data_root=str(data.root / 'test'))
    ], 'test_dataloader.dataset must have .*mkdir .*test/cat'),
    # names
    'names in another order': (lambda data: data.both(classes=NAMES[::-1]),
                               "'cat' is class 0 in the folders of .*class 2 "
                               'in the classes of .*or leave out'),
    'names in another order and spelling':
    (lambda data: data.both(classes=['1. Dog', '2. Cat', '3. Owl']),
     "'cat' is class 0 .*'1. Dog'|'cat' is class 0 .*'2. Cat' class 1"),
    'too few names':
    (lambda data: data.both(classes=['Felis', 'Canis']),
     'has 2 classes .Felis, Canis., .*train has 3 class folders .cat, dog, owl'
     ),
    'numbers as folders, in the order of numbers':
    (lambda data: [[(data.root / split / old).rename(data.root / split / new)
                    for old, new in zip(NAMES,
                                        ('9', '10', '11'))] and data.set(
                                            split, classes=['9', '10', '11'])
                   for split in ('train', 'val')], "'10' is class 0 in the "
     'folders'),
    'names of a list that are not its folders': (lambda data: [
        data.annotate('train'),
        data.set('train', classes=['dog', 'cat', 'owl'])
    ], "'cat' is class 0 in the folders of .*train.txt.*class 1 in the classes"
                                                 ),
    'other names to validate':
    (lambda data: [[data.annotate(split) for split in ('train', 'val')],
                   data.set('train', classes=['a', 'b', 'c']),
                   data.set('val', classes=['a', 'c', 'b'])],
     "'b' is class 1 in .*train.*class 2 in .*val"),
    # lists
    'validation labels from 1': (lambda data: data.annotate('val', first=1),
                                 "'cat' is class 0 in the folders of .*train "
                                 '.*class 1 in the folders of .*val.txt'),
    'training labels from 1': (lambda data: data.annotate('train', first=1),
                               "'cat' is class 1 in .*train.txt"),
    'labels from 1 of images in one folder': (lambda data: [
        data.image(f'val/{name}{index}.png') for name in NAMES
        for index in (0, 1)
    ] and data.annotate('val', '{name}{index}.png {label}\n', first=1),
                                              'label 3 is not one of the 3 '
                                              'classes.*count from 1: '
                                              'subtract 1'),
    'labels of the test from 1': (lambda data: [
        data.annotate('val', first=1),
        data.test(), data.cfg[VAL].dataset.pop('ann_file')
    ], "'cat' is class 0 .*class 1 in .*val.txt .test_dataloader"),
    'two lists that number their folders in two ways':
    (lambda data:
     [data.annotate('train'),
      data.write('val', 'cat/0.png 1\ndog/0.png 0\n')],
     "'cat' is class 0 in .*class 1 in"),
    'an empty line': (lambda data: data.write('val', 'cat/0.png 0\n\n'),
                      "val.txt, line 2: '' .*NAME LABEL.*remove the line"),
    'commas':
    (lambda data: data.annotate('val', '{name}/{index}.png,{label}\n'),
     'val.txt, line 1: .*NAME LABEL'),
    'tabs':
    (lambda data: data.annotate('train', '{name}/{index}.png\t{label}\n'),
     'train.txt, line 1: .*one space'),
    'a label that is missing':
    (lambda data: data.write('train', 'cat/0.png 0\ndog/0.png\n'),
     "train.txt, line 2: 'dog/0.png' is not"),
    'a label that is no integer':
    (lambda data: data.write('val', 'cat/0.png 0.0\n'), 'val.txt, line 1'),
    'a name for a label': (lambda data: data.write('val', 'cat/0.png cat\n'),
                           'val.txt, line 1'),
    'a byte order mark':
    (lambda data: data.write('val', 'cat/0.png 0\n', encoding='utf-8-sig'),
     'byte order mark'),
    'a list in UTF-16':
    (lambda data: data.write('val', 'cat/0.png 0\n', encoding='utf-16'),
     'UTF-8.*save it as UTF-8'),
    'a list with an image that is absent':
    (lambda data: data.write('train', 'cat/0.png 0\ndog/9.png 1\nowl/9.png 2'),
     "2 of 3 images are absent, first '.*dog/9.png'.*data_prefix"),
    'a list of the test with commas': (lambda data: [
        data.write('val', 'cat/0.png,0\n'),
        data.test(), data.cfg[VAL].dataset.pop('ann_file')
    ], 'test_dataloader.dataset.ann_file .*line 1'),
    'text for a label in JSON':
    (lambda data: data.json('train', [0, 1, 'owl']),
     "gt_label of .*owl/0.png is 'owl'"),
    'a fraction for a label in JSON':
    (lambda data: data.json('val', [0, 1, 2.0]), 'owl/0.png is 2.0'),
    'a label that is missing in JSON':
    (lambda data: data.json('val', [0, None, 2]), 'dog/0.png is None'),
    'a label beyond the classes in JSON':
    (lambda data: data.json('val', [0, 1, 3]),
     "'owl' is class 2 .*class 3 in .*val.json"),
    'a negative label':
    (lambda data: data.write('val', 'cat/0.png 0\ndog/0.png -1\n'),
     "'dog' is class 1|label -1"),
    # classes that training never shows
    'folds of sorted images': (folds, 'val_dataloader has images of classes '
                               r'of which train_dataloader has none: 2 .owl.*'
                               'Set train_dataloader.dataset.seed'),
    'a class that is only validated':
    (lambda data: data.write('train', 'cat/0.png 0\ndog/0.png 1\n'),
     'train_dataloader has none: 2 .owl.*Add training images'),
    # images that are trained on
    'two folds that overlap':
    (lambda data: [folds(data, seed=1), data.cfg[VAL].dataset.update(seed=2)],
     r'images of val_dataloader are training images: set fold, num_splits '
     'and seed of KFoldDataset .*train_dataloader'
     '.dataset'),
    'folds that only train':
    (lambda data:
     [folds(data, seed=1), data.cfg[VAL].dataset.update(test_mode=False)],
     '8 of the 8 images of val_dataloader are training images.*test_mode'),
    # splits
    'a split that MNIST does not read':
    (lambda data: data.cfg.
     update(
         val_dataloader=dict(
             data.cfg[VAL],
             dataset=dict(
                 type='FashionMNIST', data_root='x', split='test', pipeline=[])
         )),
     "val_dataloader.dataset: split='test'.*reads test_mode alone.*set "
     'val_dataloader.dataset.test_mode=True'),
    'training images of CIFAR to validate': (lambda data: data.cfg.update(
        val_dataloader=dict(
            data.cfg[VAL],
            dataset=dict(
                type='CIFAR10', data_root='x', test_mode=True, pipeline=[]))
    ), "CIFAR10 reads split alone.*set val_dataloader.dataset.split='test'"),
    # images
    'an empty file':
    (lambda data: (data.root / 'val/owl/1.png').write_bytes(b''),
     'val_dataloader.dataset: .*owl/1.png cannot be read as an image'),
    'a page for an image':
    (lambda data: (data.root / 'train/cat/2.png').write_text('<html>'),
     'cat/2.png cannot be read as an image'),
    'PNGs that are cut off':
    (lambda data: [cut(data.root / f'train/{name}/2.png') for name in NAMES],
     'cat/2.png .*replace.*not the only one: .*dog/2.png, '
     '.*owl/2.png'),
    'a JPEG that is cut off': (lambda data: cut(data.image('train/cat/9.jpg')),
                               'cat/9.jpg cannot be read'),
}


@pytest.mark.parametrize('name', WRONG)
def test_what_would_go_wrong_without_a_word_is_one_sentence(data, name):
    data.check()
    change, message = WRONG[name]
    change(data)
    with pytest.raises(PreflightError, match=f'(?s){message}'):
        data.check()


def multi_label(data):
    data.json('train', [[0, 1], [1], [2]])
    data.json('val', [[0], [], [1, 2]])
    for field in (TRAIN, VAL):
        data.cfg[field].dataset.type = 'MultiLabelDataset'


def jpeg_with_more(data):
    path = data.image('train/cat/9.jpg')
    path.write_bytes(path.read_bytes() + b'\0' * 40)


def sorted_apart(data):
    """Some folders are concatenated, one of which has no image itself."""
    shutil.copytree(data.root / 'train', data.root / 'more')
    for path in (data.root / 'train/dog').iterdir():
        path.unlink()
    train = dict(data.cfg[TRAIN].dataset)
    data.cfg[TRAIN].dataset = dict(
        type='ConcatDataset',
        datasets=[train, dict(train, data_root=str(data.root / 'more'))])


def wrapped(data):
    for field, kwargs in ((TRAIN,
                           dict(
                               type='ClassBalancedDataset',
                               oversample_thr=0.1)),
                          (VAL, dict(type='RepeatDataset', times=2))):
        data.cfg[field].dataset = dict(kwargs, dataset=data.cfg[field].dataset)


def in_memory(data):
    data.cfg[TRAIN].collate_fn = dict(type='batch_or_collate')
    data.cfg[TRAIN].dataset = dict(
        type='InMemoryDataset', dataset=data.cfg[TRAIN].dataset)


# what is done to the data, and what the log says, if anything
RIGHT = {
    'as they are': (lambda data: None, ''),
    'a class without validation images':
    (lambda data:
     [path.unlink() for path in (data.root / 'val/dog').iterdir()],
     r'val_dataloader has no image of 1 of the 3 classes: 1 \(dog\)'),
    'images in folders of folders, in other scripts and with spaces':
    (lambda data:
     [data.image('train/cat/a b/été/猫 1.png'),
      data.image('val/dog/ß.PNG')], ''),
    'files that are not read':
    (lambda data: [(data.root / 'train/cat' / name).write_text('')
                   for name in ('a.txt', 'b.txt', '.DS_Store')],
     r'files in .*train are not read: 2 .txt\. To read .*extensions'),
    'names for wnids':
    (lambda data: data.both(classes=['tabby', 'husky', 'bo']), ''),
    'names in another spelling':
    (lambda data: data.both(classes=['001.Cat', '002.Dog', '003.Owl']), ''),
    'one name in other words':
    (lambda data: data.both(classes=['cat', 'hound', 'owl']), ''),
    'a list that begins with another class':
    (lambda data: data.write('val', 'owl/0.png 2\ncat/0.png 0\ndog/1.png 1\n'),
     ''),
    'names with spaces, and lines that end as on Windows': (lambda data: [
        data.image('val/cat/a b 7.png'),
        data.write('val', 'cat/a b 7.png 0\r\ndog/0.png 1\r\nowl/0.png 2\r\n')
    ], ''),
    'folders that are no classes': (lambda data: [
        data.write('train', ''.join(f'cat/{n}.png {n % 3}\n'
                                    for n in range(4))),
        data.write('val', 'dog/0.png 0\ndog/1.png 1\nowl/0.png 2\n')
    ], ''),
    'several labels': (multi_label, ''),
    'no labels': (lambda data: [
        data.set('train', with_label=False),
        data.write('val', 'cat/0.png\ndog/0.png', with_label=False),
        data.cfg.update(
            val_evaluator=dict(type='DumpResults', out_file_path='x.pkl'))
    ], ''),
    'folds that are shuffled': (lambda data: folds(data, seed=1), ''),
    'the first images of sorted ones':
    (lambda data: data.set('train', indices=5),
     'train_dataloader has none: 2 .owl'),
    'wrappers': (wrapped, ''),
    'accuracy on training images':
    (lambda data: data.cfg[VAL].update(dataset=data.cfg[TRAIN].dataset),
     '12 of the 12 images of val_dataloader are training images'),
    'in memory': (in_memory, ''),
    'folders that are concatenated': (sorted_apart, ''),
    'data of a later test that are absent':
    (lambda data: data.test(data_root='nowhere'), ''),
    'images with bytes behind them': (jpeg_with_more, ''),
    'images of other kinds': (lambda data: [
        data.image(f'train/cat/{mode}.{kind}', mode) for mode, kind in
        (('L', 'png'), ('RGBA', 'png'), ('P', 'png'), ('1', 'bmp'),
         ('L', 'jpg'), ('CMYK', 'jpg'), ('RGB', 'tif'), ('RGB', 'ppm'))
    ], ''),
    'a split that both say': (lambda data: data.set('val', test_mode=True),
                              ''),
}


@pytest.mark.parametrize('name', RIGHT)
def test_what_is_right_passes(data, name):
    change, message = RIGHT[name]
    change(data)
    _, log = data.check()
    lines = [line for line in log.splitlines() if 'Found no valid' not in line]
    if message:
        assert len(lines) <= 2 and any(
            re.search(message, line) for line in lines)
    else:
        assert not lines


@pytest.mark.parametrize('names', [('cat', 'dog', 'owl'),
                                   ('Cat', 'DOG', 'owl')])
def test_a_remedy_for_a_class_that_validation_lacks_works(data, names):
    shutil.rmtree(data.root / 'val/dog')
    tested = Classes.of_checkpoint('checkpoint', 'a.pth',
                                   dict(dataset_meta=dict(classes=names)))
    data.cfg[TEST] = data.cfg[VAL]
    for fields, known in (((TRAIN, VAL), None), ((TEST, ), None), ((TEST, ),
                                                                   tested)):
        with pytest.raises(PreflightError):
            data.check(fields, known)
    (data.root / 'val/dog').mkdir()
    for fields, known in (((TRAIN, VAL), None), ((TEST, ), None), ((TEST, ),
                                                                   tested)):
        data.check(fields, known)


@pytest.mark.parametrize('names, message', [
    (('dog', 'cat', 'owl'),
     "'cat' is class 0 in .*class 1 in .*a.pth.*Resume"),
    (('Dog', 'Cat', 'Owl'), "'cat' is class 0 .*and 'Cat' class 1"),
    (('cat', 'dog', 'emu'), "has a class 'owl', .*a.pth.* has none"),
    (('ant', 'cat', 'dog', 'owl'), "'cat' is class 0 .*class 1"),
])
def test_a_checkpoint_of_other_classes_is_refused(data, names, message):
    found, _ = data.check()
    checkpoint = Classes.of_checkpoint('model.teacher_ckpt', 'a.pth',
                                       dict(dataset_meta=dict(classes=names)))
    with pytest.raises(PreflightError, match=message):
        check_checkpoint(checkpoint, found, 'Resume it')


@pytest.mark.parametrize('names, warns', [
    (NAMES, False),
    (['CAT', '2_dog', 'Owl '], False),
    (None, False),
    (['n01', 'n02', 'n03'], True),
])
def test_a_checkpoint_of_these_classes_passes(data, names, warns, capsys):
    found, _ = data.check()
    checkpoint = Classes.of_checkpoint('model.teacher_ckpt', 'a.pth',
                                       dict(dataset_meta=dict(classes=names)))
    log = StringIO()
    handler = logging.StreamHandler(log)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    check_checkpoint(checkpoint, found, 'Resume it')
    logger.removeHandler(handler)
    assert ('n01, n02, n03' in log.getvalue()) == warns
