# Copyright (c) sdd_mm contributors. All rights reserved.
"""The config in a checkpoint is read without running it."""
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from toy import build_classifier

from sdd_mm.config_text import read_config
from sdd_mm.input_format import stated_mismatch

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


@pytest.mark.parametrize('name', [
    'demo/sd-kd.py', 'fast/sd-kd_demo_fast.py',
    'sdd/sd-dkd_res50_mbv1_imagenet.py', 'vanilla/vgg13_cub200.py'
])
def test_a_dumped_config_is_read_as_it_was(name):
    config = Config.fromfile(CONFIGS / name)
    assert read_config(config.pretty_text) == config.to_dict()


def test_code_in_a_config_is_none_and_does_not_run(tmp_path):
    code = (f'a = open("{tmp_path / "ran"}", "w")\n'
            'b = dict(c=[x for x in "abc"], d=-1.5, e=-"f", g={"h": {1, 2}})\n'
            'import os\ni, j = 1, 2\nk = l = (True, None)')
    assert read_config(code) == dict(
        a=None,
        b=dict(c=None, d=-1.5, e=None, g=dict(h=None)),
        k=(True, None),
        l=(True, None))
    assert not (tmp_path / 'ran').exists()
    for text in ('a = (', 'a = ' + '(' * 5000 + ')' * 5000, 'a\0b',
                 'a = ' + '-' * 200000 + '1'):
        with pytest.raises(ValueError, match='not a config|null bytes'):
            read_config(text)


def trained(**preprocessor):
    """The meta of a teacher's checkpoint, as MMEngine writes it."""
    cfg = Config.fromfile(CONFIGS / 'vanilla' / 'vgg13_cub200.py')
    cfg.data_preprocessor.update(preprocessor)
    return dict(cfg=cfg.pretty_text)


@pytest.mark.parametrize('meta, loaded, message', [
    (trained(), 'BGR', None),
    (trained(), None, None),
    (dict(cfg='data_preprocessor = dict(mean=[1], std=[1])\n'
          'model = dict(data_preprocessor=dict(to_rgb=True, mean=[123.675, '
          '116.28, 103.53], std=[58.395, 57.12, 57.375]))'), 'BGR', None),
    (dict(cfg='data_preprocessor = dict(mean=[9], std=[57.12])\n'
          'train_dataloader = dict(dataset=dict(datasets=[]))'), 'BGR',
     r'trained on images normalized by mean \[9\]'),
    (trained(mean=[120.0] * 3), 'BGR', r'trained on RGB images.*mean \[120,'),
    (trained(std=[50.0] * 3), 'BGR', r'std \[50, 50, 50\], in the data'),
    (trained(mean=None, std=None), 'BGR', r'mean \[0\], std \[1\], in the'),
    (trained(to_rgb=False), 'BGR', 'trained on BGR images, the data set loads '
     'BGR and to_rgb=True'),
    (trained(), 'RGB', 'trained on RGB images, the data set loads RGB'),
    (dict(cfg='data_preprocessor = 5'), 'BGR', None),
    (dict(cfg='data_preprocessor = dict(mean="a")'), 'BGR', None),
    (dict(cfg='('), 'BGR', None),
    (dict(cfg=None), 'BGR', None),
    ({}, 'BGR', None),
])
def test_images_must_be_those_that_the_config_trained_on(
        meta, loaded, message):
    model = build_classifier(
        data_preprocessor=dict(
            type='ClsDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True))
    found = stated_mismatch(model, meta, loaded)
    if message is None:
        assert found is None
    else:
        assert re.search(message, found)
