# Copyright (c) sdd_mm contributors. All rights reserved.
"""Image classifiers of Hugging Face as teachers and students."""
import json
import runpy
import socket
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from test_configs import CONFIGS

from sdd_mm import make_config
from sdd_mm.config_builder import ConfigBuilderError
from sdd_mm.converters import ConversionError
from sdd_mm.converters.hugging_face import (convert_hugging_face_folder,
                                            hugging_face_images,
                                            hugging_face_teacher)
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.smoke import to_smoke
from sdd_mm.hub import HubError, hugging_face
from sdd_mm.models.algorithms.teacher import load_teacher
from sdd_mm.models.algorithms.teacher_inference import TeacherError

transformers = pytest.importorskip(
    'transformers', reason='pip install sdd_mm[transformers]')
ROOT = CONFIGS.parent
STUDENT = str(ROOT / 'configs/demo/student.py')
VIT = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=32,
    patch_size=8)
STAGES = dict(hidden_sizes=[8, 16], depths=[1, 1])
NETWORKS = dict(
    ResNet=dict(embedding_size=8, layer_type='basic', **STAGES),
    ViT=VIT,
    Dinov2=VIT,
    ConvNext=dict(num_stages=2, patch_size=2, **STAGES),
    Swin=dict(
        image_size=32,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=4,
        drop_path_rate=0.0),
    MobileNetV2=dict(depth_multiplier=0.35))
PROCESSOR = dict(
    size=dict(height=32, width=32),
    image_mean=[0.5, 0.4, 0.3],
    image_std=[0.2, 0.25, 0.3])


def network(kind, num_labels=10, **kwargs):
    """A small network with norms as if trained."""
    torch.manual_seed(0)
    config = getattr(transformers, f'{kind}Config')(
        num_labels=num_labels, **{
            **NETWORKS[kind],
            **kwargs
        })
    model = getattr(transformers, f'{kind}ForImageClassification')(config)
    for name, value in model.state_dict().items():
        if name.endswith('running_var'):
            torch.nn.init.uniform_(value, 0.5, 2)
        elif value.is_floating_point():
            torch.nn.init.normal_(value,
                                  float(value.ndim == 1 and 'weight' in name),
                                  0.2)
    return model.eval()


def folder(path, kind, processor='ViT', settings=PROCESSOR, **kwargs):
    """What a user has: a network and its image processor, saved."""
    model = network(kind, **kwargs)
    model.save_pretrained(path)
    processor = getattr(transformers, f'{processor}ImageProcessor')(**settings)
    processor.save_pretrained(path)
    return model, processor


@pytest.fixture(autouse=True)
def no_network(monkeypatch):

    def refuse(*args):
        raise AssertionError(f'a connection to {args[1:]}')

    monkeypatch.setattr(socket.socket, 'connect', refuse)


def edit(path, name, **changes):
    """Change keys of a JSON file; None removes one."""
    content = json.loads((path / name).read_text())
    content.update(changes)
    content = {key: v for key, v in content.items() if v is not None}
    (path / name).write_text(json.dumps(content))


@pytest.mark.parametrize('kind', NETWORKS)
@pytest.mark.parametrize('loads_bgr', [False, True])
def test_a_teacher_gives_the_logits_of_the_pipeline(tmp_path, kind, loads_bgr):
    """From the values of pixels to logits, as its users run it."""
    model, processor = folder(tmp_path / 'hf', kind)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(
            hugging_face_teacher(tmp_path / 'hf', 10, loads_bgr)).eval()
    convert_hugging_face_folder(tmp_path / 'hf', tmp_path / 'teacher.pth')
    load_teacher(teacher, str(tmp_path / 'teacher.pth'))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    loaded = pixels[..., ::-1] if loads_bgr else pixels
    data = teacher.data_preprocessor(
        dict(
            inputs=[torch.from_numpy(loaded.transpose(2, 0, 1).copy())],
            data_samples=[DataSample()]))
    with torch.no_grad():
        own = model(**processor(Image.fromarray(pixels), return_tensors='pt'))
        found = teacher(data['inputs'])
    assert own.logits.std() > 1e-3
    torch.testing.assert_close(found, own.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('processor, settings, mean, std, order', [
    ('ViT', PROCESSOR, [127.5, 102, 76.5], [51, 63.75, 76.5], 'RGB'),
    ('ConvNext', dict(image_mean=[0.485] * 3, image_std=[0.229] * 3),
     [123.675] * 3, [58.395] * 3, 'RGB'),
    ('ViT', dict(do_normalize=False), [0] * 3, [255] * 3, 'RGB'),
    ('ViT', dict(do_normalize=False,
                 do_rescale=False), [0] * 3, [1] * 3, 'RGB'),
    ('MobileViT', {}, [0] * 3, [255] * 3, 'BGR'),
    ('EfficientNet', dict(include_top=True), [127.5] * 3, [63.75] * 3, 'RGB'),
])
def test_what_an_image_processor_does_is_measured(tmp_path, processor,
                                                  settings, mean, std, order):
    folder(tmp_path, 'ResNet', processor, settings)
    images = hugging_face_images(tmp_path)
    assert images.channel_order == order
    assert images.mean == pytest.approx(mean, abs=1e-3)
    assert images.std == pytest.approx(std, rel=1e-5)
    for loads_bgr in (False, True):
        config = hugging_face_teacher(tmp_path, 10, loads_bgr)
        assert config['data_preprocessor']['to_rgb'] == (
            loads_bgr == (order == 'RGB'))


def test_older_names_and_files_are_read(tmp_path, monkeypatch, capsys):
    """A file of ``pytorch_model.bin``, in half precision, is read strictly."""
    model, _ = folder(tmp_path / 'hf', 'ViT')
    from safetensors.torch import load_file
    file = tmp_path / 'hf/model.safetensors'
    weights = {name: w.half() for name, w in load_file(file).items()}
    assert set(weights) != set(model.state_dict())
    torch.save(weights, tmp_path / 'hf/pytorch_model.bin')
    file.unlink()
    edit(tmp_path / 'hf', 'config.json', dtype='float16')
    monkeypatch.setattr(
        sys, 'argv', ['', str(tmp_path / 'hf'),
                      str(tmp_path / 'hf.pth')])
    converter = 'tools/model_converters/hugging_face_to_mmpretrain.py'
    runpy.run_path(str(ROOT / converter), run_name='__main__')
    assert f'of the teacher hf::{tmp_path}' in capsys.readouterr().out
    found = torch.load(tmp_path / 'hf.pth')['state_dict']
    assert set(found) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], value.half().float())
    assert hugging_face(tmp_path / 'hf').dtype == torch.float32


@pytest.mark.parametrize('kind', ['ViT', 'ConvNext', 'Swin'])
def test_any_of_them_teaches_and_learns_by_logits(tmp_path, kind):
    folder(tmp_path / 'hf', kind)
    path = make_config(
        tmp_path / 'kd.py',
        STUDENT,
        f'hf::{tmp_path / "hf"}',
        'kd',
        on_normalization_mismatch='convert')
    cfg = Config.fromfile(path)
    file = Path(cfg.model.teacher_ckpt)
    assert file.parent == tmp_path and file.name.startswith('hf_hf_')
    digest = path.read_text().split('SHA-256 ')[1].split()[0]
    assert digest[:12] in file.name
    student = dict(
        type='ModuleClassifier',
        num_classes=10,
        init_cfg=dict(type='Pretrained', checkpoint=str(file)),
        module=dict(
            type='sdd_mm.hub.hugging_face', folder=str(tmp_path / 'hf')))
    both = tmp_path / 'both.py'
    both.write_text(f'''
_base_ = ['kd.py']
model = dict(
    data_preprocessor=dict(mean=[127.5, 102, 76.5], std=[51, 63.75, 76.5]),
    architecture=dict(_delete_=True, _scope_='mmpretrain', **{student!r}))
''')
    cfg = Config.fromfile(both)
    cfg.work_dir = str(tmp_path / 'run')
    to_smoke(cfg, 1)
    check_training(cfg)
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    own, batch = network(kind).state_dict(), next(
        iter(runner.train_dataloader))
    for found in (runner.model.teacher, runner.model.student):
        assert found.state_dict().keys() == own.keys()
        for name, value in found.state_dict().items():
            assert torch.equal(value.cpu(), own[name])
    data = runner.model.data_preprocessor(batch, True)
    losses = runner.model(**data, mode='loss')
    assert losses['distill.loss_kd'].item() == pytest.approx(0, abs=1e-5)
    sum(losses.values()).backward()
    grads = [p.grad for p in runner.model.student.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / 'hf'

    def refused(message, call=None, error=ConversionError):
        with pytest.raises(error, match=message):
            (call or convert_hugging_face_folder)(path, tmp_path / 'no.pth')
        assert not (tmp_path / 'no.pth').exists()

    refused('no config.json: write the network .* `hf download NAME')
    folder(path, 'ResNet')
    refused('10 classes, the student 100',
            lambda *_: hugging_face_teacher(path, 100))
    (path / 'adapter_config.json').write_text('{}')
    refused('holds an adapter: merge it')
    (path / 'adapter_config.json').unlink()
    before = (path / 'config.json').read_text()
    for key, value, message in [
        ('problem_type', 'multi_label_classification', 'one softmax'),
        ('model_type', 'timm_wrapper', 'teacher timm::NAME'),
        ('model_type', 'bert', 'cannot build an image classifier'),
        ('depths', [1, 2], 'not those of a ResNet.*: missing: resnet.enc'),
        ('id2label', {
            '0': 'a',
            '1': 'b'
        }, r'shape: classifier.1.bias \(10,\) instead of \(2,\)'),
    ]:
        edit(path, 'config.json', **{key: value})
        refused(message)
        (path / 'config.json').write_text(before)
    from safetensors.torch import load_file, save_file
    weights = load_file(path / 'model.safetensors')
    for name, value in (('surplus', torch.zeros(1)), ('classifier.1.bias',
                                                      torch.full((10, ),
                                                                 torch.nan))):
        save_file({
            **weights, name: value
        },
                  path / 'model.safetensors',
                  metadata=dict(format='pt'))
        refused(name)
    save_file(weights, path / 'model.safetensors', metadata=dict(format='pt'))
    (path / 'preprocessor_config.json').unlink()
    refused('no preprocessor_config.json, so nothing says')
    with pytest.raises(HubError, match='no config.json'):
        hugging_face('no/folder')


def test_another_normalization_or_network_is_an_error(tmp_path):
    folder(tmp_path / 'hf', 'ResNet')
    convert_hugging_face_folder(tmp_path / 'hf', tmp_path / 'hf.pth')
    config = hugging_face_teacher(tmp_path / 'hf', 10)
    config['data_preprocessor']['mean'] = [123.675, 116.28, 103.53]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(deepcopy(config))
        with pytest.raises(TeacherError, match=r'by mean \[127.5, 102'):
            load_teacher(teacher, str(tmp_path / 'hf.pth'))
        # the same weights fit, the logits would be others
        edit(tmp_path / 'hf', 'config.json', hidden_act='gelu')
        with pytest.raises(HubError, match='config.json has changed'):
            MODELS.build(config)


def test_another_order_of_classes_is_an_error(tmp_path):
    names = [*'1023456789']
    folder(
        tmp_path / 'hf',
        'ResNet',
        id2label=dict(enumerate(names)),
        label2id={
            name: i
            for i, name in enumerate(names)
        })
    path = make_config(
        tmp_path / 'kd.py',
        STUDENT,
        f'hf::{tmp_path / "hf"}',
        'kd',
        on_normalization_mismatch='convert')
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path)
    with pytest.raises(PreflightError, match="'0' is class 0 in .* 1 in"):
        check_training(cfg)


def test_a_config_that_would_not_train_leaves_no_weights(tmp_path):
    folder(tmp_path / 'hf', 'ViT')
    edit(tmp_path / 'hf', 'config.json', image_size=64)
    with pytest.raises(
            ConfigBuilderError, match='another shape: .*position_emb'):
        make_config(tmp_path / 'kd.py', STUDENT, f'hf::{tmp_path / "hf"}',
                    'kd')
    network('ViT', image_size=64).save_pretrained(tmp_path / 'hf')
    with pytest.raises(ConfigBuilderError, match='--teacher-size'):
        make_config(
            tmp_path / 'kd.py',
            STUDENT,
            f'hf::{tmp_path / "hf"}',
            'kd',
            on_normalization_mismatch='convert')
    folder(tmp_path / 'hf', 'ViT')
    for method, message in (('kd', 'on_normalization_mismatch'),
                            ('sd-kd', "need the names of its pooling")):
        with pytest.raises(ConfigBuilderError, match=message):
            make_config(tmp_path / 'kd.py', STUDENT, f'hf::{tmp_path / "hf"}',
                        method)
        assert not list(tmp_path.glob('*.p*'))
