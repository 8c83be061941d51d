# Copyright (c) sdd_mm contributors. All rights reserved.
"""How images are normalized: from models, configs and checkpoints."""
import pytest
import torch
from mmengine.config import Config
from toy import PREPROCESSOR, build_classifier

from sdd_mm.input_format import (META, InputConversion, InputFormat,
                                 stated_mismatch)

OWN = InputFormat((128., ) * 3, (64., ) * 3)


def model_of(**kwargs):
    return build_classifier(data_preprocessor=dict(PREPROCESSOR, **kwargs))


def test_a_model_states_its_format():
    assert InputFormat.of_model(model_of()) == OWN
    found = InputFormat.of_model(model_of(to_rgb=True), 'BGR')
    assert found == OWN._replace(to_rgb=True, channel_order='RGB')
    assert InputFormat.of_model(torch.nn.Linear(1, 1)) is None
    assert InputFormat.of_model(model_of(mean=None, std=None)).is_plain


@pytest.mark.parametrize('own', [True, False])
def test_a_run_states_its_format_by_its_config(own):
    preprocessor = dict(mean=[128.] * 3, std=[64.] * 3, to_rgb=True)
    cfg = Config(
        dict(
            model=dict(data_preprocessor=preprocessor) if own else dict(),
            data_preprocessor=None if own else preprocessor,
            train_dataloader=dict(
                dataset=dict(
                    type='CustomDataset',
                    pipeline=[dict(type='LoadImageFromFile')]))))
    found = InputFormat.of_meta(dict(cfg=cfg.pretty_text))
    assert found == OWN._replace(to_rgb=True, channel_order='RGB')
    assert InputFormat.of_meta(dict(cfg='a = 1')) is None
    assert InputFormat.of_meta({}) is None


def test_what_is_stated_is_read_again():
    for one in (OWN, OWN._replace(channel_order='BGR')):
        assert InputFormat.of_meta({META: one.meta()}) == one
    with pytest.raises(ValueError, match='lacks mean, std or channel_order'):
        InputFormat.of_meta({META: dict(mean=[0.])})


@pytest.mark.parametrize('stated, kwargs, loaded, message', [
    (OWN, {}, None, None),
    (OWN, {}, 'BGR', None),
    (OWN._replace(channel_order='BGR'), {}, 'BGR', None),
    (OWN._replace(channel_order='RGB'), dict(to_rgb=True), 'BGR', None),
    (OWN._replace(channel_order='RGB'), {}, None, None),
    (OWN._replace(channel_order='RGB'), {}, 'BGR',
     'it was trained on RGB images, the data set loads BGR and to_rgb=False '
     'of the data preprocessor makes it BGR'),
    (InputFormat((128., ), (64., )), {}, None, None),
    (OWN._replace(mean=(128.001, ) * 3), {}, None, None),
    (OWN._replace(mean=(129., ) * 3), {}, None,
     'it was trained on images normalized by mean [129, 129, 129], std [64, '
     '64, 64], in the data preprocessor mean [128, 128, 128], std [64, 64, '
     '64]'),
    (OWN._replace(mean=(128., ) * 4), {}, None,
     'normalized by mean [128, 128, 128, 128]'),
])
def test_one_comparison(stated, kwargs, loaded, message):
    found = stated_mismatch(model_of(**kwargs), {META: stated.meta()}, loaded)
    assert found is None if message is None else message in found


def test_conversion_gives_the_images_that_the_target_would_make():
    data = dict(inputs=torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8))
    source, target = model_of(), model_of(
        mean=[10., 20., 30.], std=[1., 2., 3.], to_rgb=True)
    convert = InputConversion(*map(InputFormat.of_model, (source, target)))
    found, expected = (
        model.data_preprocessor(dict(data))['inputs']
        for model in (source, target))
    torch.testing.assert_close(convert(found), expected)
    assert not convert.state_dict()
