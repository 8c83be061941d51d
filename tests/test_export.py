# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student at home in plain MMPretrain, with the accuracy of its run."""
import copy
import hashlib
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmpretrain import ImageClassificationInferencer, get_model
from mmpretrain.apis import ModelHub
from mmpretrain.datasets import PackInputs
from mmpretrain.models.backbones.mixmim import MixMIMBlock
from mmpretrain.models.utils import ShiftWindowMSA
from mmrazor.registry import MODELS
from toy import PREPROCESSOR, algorithm, classifier

from sdd_mm.converters import ConversionError, export_student
from sdd_mm.converters.graph import (METADATA, StudentGraph, to_onnx,
                                     to_torchscript, write_graphs)
from sdd_mm.converters.plain_config import plain_config
from sdd_mm.converters.sample_images import describe_images, sample_images
from sdd_mm.converters.windows import traceable_windows, window_reverse
from sdd_mm.datasets import DigitScenes
from sdd_mm.engine.preflight import check_training
from sdd_mm.input_format import stated_mismatch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A short distillation with EMA: its checkpoint, accuracy and config."""
    root = tmp_path_factory.mktemp('run')
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'sd-kd.py')
    cfg.merge_from_dict({
        'work_dir':
        str(root),
        'model.teacher_ckpt':
        str(root / 'teacher.pth'),
        'train_dataloader.dataset.num_scenes':
        512,
        'val_dataloader.dataset.num_scenes':
        200,
        'train_cfg.max_epochs':
        2,
        'param_scheduler.total_steps':
        2,
        'data_preprocessor.mean': [60.0, 64.0, 68.0],
        'model.teacher.data_preprocessor.mean': [60.0, 64.0, 68.0],
        'experiment_name':
        'export'
    })
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.5))
    torch.save(
        MODELS.build(cfg.model.teacher).state_dict(), root / 'teacher.pth')
    runner = Runner.from_cfg(cfg)
    runner.train()
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    return root / 'epoch_2.pth', accuracy, cfg


def accuracy_of(model, count=200):
    """As a user of MMPretrain would ask."""
    scenes = DigitScenes('test', count)
    images = [scenes.get_data_info(index) for index in range(count)]
    found = ImageClassificationInferencer(model)(
        [image['img'] for image in images], batch_size=100)
    assert {result['pred_class'] for result in found} <= set('0123456789')
    return 100 * sum(result['pred_label'] == image['gt_label']
                     for result, image in zip(found, images)) / count


def test_the_student_has_the_accuracy_of_its_run(run, tmp_path):
    checkpoint, accuracy, cfg = run
    path, _ = export_student(str(checkpoint), str(tmp_path / 'student.pth'))
    assert path == tmp_path / 'student.pth'
    model = get_model(str(path.with_suffix('.py')), pretrained=str(path))
    assert accuracy_of(model) == pytest.approx(accuracy, abs=1e-4)
    saved = torch.load(path, weights_only=True)
    assert saved['meta']['epoch'] == 2
    assert all(
        torch.is_tensor(value) for value in saved['state_dict'].values())
    text = path.with_suffix('.py').read_text()
    for word in ('teacher', 'distiller', 'Deferred', 'EMAHook', 'work_dir'):
        assert (word in text) == (word == 'EMAHook')
    assert path.stat().st_size < 0.5 * checkpoint.stat().st_size
    # the very scores of the model that was validated
    validated = MODELS.build(
        dict(cfg.model, data_preprocessor=cfg.data_preprocessor)).eval()
    validated.load_state_dict(torch.load(checkpoint)['state_dict'])
    images = [scene['img'] for scene in DigitScenes('test', 20)]
    found = ImageClassificationInferencer(model)(images, batch_size=20)
    data = [PackInputs()(dict(img=image, gt_label=0)) for image in images]
    with torch.no_grad():
        wanted = validated.val_step(pseudo_collate(data))
    for one, other in zip(found, wanted):
        assert np.allclose(one['pred_scores'], other.pred_score, atol=1e-6)


def test_an_image_gets_the_name_of_its_folder(tmp_path):
    colors = dict(red=(200, 40, 40), green=(40, 200, 40), blue=(40, 40, 200))
    rng = np.random.default_rng(0)
    for name, color in colors.items():
        (tmp_path / 'data' / name).mkdir(parents=True)
        for index in range(8):
            image = color[::-1] + rng.normal(0, 10, (16, 16, 3))
            cv2.imwrite(
                str(tmp_path / 'data' / name / f'{index}.png'),
                image.clip(0, 255).astype(np.uint8))
    model = algorithm(
        architecture=classifier(num_classes=3),
        teacher=classifier(
            num_classes=3, data_preprocessor=dict(PREPROCESSOR)))
    model['distiller']['distill_losses']['loss_sdd']['loss_weight'] = 0.01
    loader = dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(
            type='CustomDataset',
            data_root=str(tmp_path / 'data'),
            pipeline=[dict(type='LoadImageFromFile'),
                      dict(type='PackInputs')]))
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=loader,
            test_dataloader=loader,
            test_evaluator=dict(type='Accuracy'),
            test_cfg=dict(),
            train_cfg=dict(by_epoch=True, max_epochs=8),
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=1e-2)),
            randomness=dict(seed=0),
            work_dir=str(tmp_path / 'run'),
            experiment_name='folders'))
    check_training(cfg)
    Runner.from_cfg(cfg).train()
    path, _ = export_student(
        str(tmp_path / 'run' / 'epoch_8.pth'), str(tmp_path / 'student.pth'))
    model = get_model(str(path.with_suffix('.py')), pretrained=str(path))
    images = sorted((tmp_path / 'data').rglob('*.png'))
    found = ImageClassificationInferencer(model)([*map(str, images)],
                                                 batch_size=8)
    assert [result['pred_class']
            for result in found] == [image.parent.name for image in images]


def test_the_plain_config_trains_by_itself(run, tmp_path):
    path, _ = export_student(str(run[0]), str(tmp_path / 'student.pth'))
    cfg = Config.fromfile(path.with_suffix('.py'))
    cfg.merge_from_dict({
        'work_dir': str(tmp_path),
        'load_from': str(path),
        'train_cfg.max_epochs': 1,
        'param_scheduler': [],
        'train_dataloader.dataset.num_scenes': 64,
        'experiment_name': 'export_plain'
    })
    runner = Runner.from_cfg(cfg)
    assert type(runner.model).__name__ == 'ImageClassifier'
    runner.train()


def test_averaged_weights_or_not(run, tmp_path):
    checkpoint, _, _ = run
    content = torch.load(checkpoint, map_location='cpu')
    for ema, source, prefix in ((True, 'state_dict', 'architecture.'),
                                (False, 'ema_state_dict',
                                 'module.architecture.')):
        path, _ = export_student(
            str(checkpoint), str(tmp_path / f'{ema}.pth'), ema=ema)
        found = torch.load(path)['state_dict']
        for name, value in found.items():
            assert torch.equal(value, content[source][prefix + name])
    bare = dict(content)
    del bare['ema_state_dict']
    torch.save(bare, tmp_path / 'bare.pth')
    with pytest.raises(ConversionError, match='no averaged weights.*EMAHook'):
        export_student(
            str(tmp_path / 'bare.pth'), str(tmp_path / 'x.pth'), ema=True)


def test_a_published_name_is_the_hash(run, tmp_path):
    path, _ = export_student(
        str(run[0]), str(tmp_path / 'student.pth'), publish=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'student-{digest[:8]}.pth'
    assert path.with_suffix('.py').is_file()
    assert sorted(tmp_path.iterdir()) == sorted(
        [path, path.with_suffix('.py'),
         path.with_suffix('.yml')])


@pytest.mark.parametrize('to_rgb', [False, True])
def test_graphs(run, tmp_path, to_rgb):
    """They take images as they are, and any number of them."""
    path, model = export_student(str(run[0]), str(tmp_path / 'student.pth'))
    cfg = Config.fromfile(path.with_suffix('.py'))
    model.data_preprocessor.channel_conversion = to_rgb
    images = sample_images(cfg)
    assert images.shape == (2, 3, 32, 32) and images.max() > 200
    graph = StudentGraph(model).eval()
    many = torch.cat([images, images.flip(2)])
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=list(many.byte())))
        wanted = model(**data, mode='tensor')
        assert torch.allclose(graph(many), wanted, atol=1e-5)
    script, onnx = tmp_path / 'a.torchscript', tmp_path / 'a.onnx'
    assert to_torchscript(graph, script, images) < 1e-5
    assert torch.allclose(torch.jit.load(str(script))(many), wanted, atol=1e-5)
    if not to_rgb:  # seconds
        assert to_onnx(graph, onnx, images) < 1e-4
        found, = onnxruntime.InferenceSession(str(onnx)).run(
            None, dict(images=many.numpy()))
        assert torch.allclose(torch.from_numpy(found), wanted, atol=1e-4)


def test_windows_of_any_number_of_images():
    torch.manual_seed(0)
    attention = ShiftWindowMSA(8, 2, 4, shift_size=2)
    attention.eval().requires_grad_(False)
    tokens = torch.randn(6, 48, 8)
    wanted = attention(tokens, (8, 6))

    def traced():
        return torch.jit.trace(lambda x: attention(x, (8, 6)), tokens[:2])

    # MMPretrain's own is wrong, or fails
    assert not torch.allclose(traced()(tokens), wanted)
    with traceable_windows():
        torch.testing.assert_close(traced()(tokens), wanted)
    image = torch.randn(6, 8, 12, 5)
    for kind in (MixMIMBlock, ShiftWindowMSA):
        windows = kind.window_partition(image, 4)
        assert window_reverse(windows, 8, 12, 4).equal(image)
        assert kind.window_reverse is not window_reverse


def test_graphs_of_window_attention(tmp_path):
    """One image and several."""
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            _scope_='mmpretrain',
            data_preprocessor=dict(mean=[120.] * 3, std=[60.] * 3),
            backbone=dict(
                type='SwinTransformer',
                arch=dict(embed_dims=8, depths=[2, 1], num_heads=[2, 2]),
                img_size=32,
                patch_size=2,
                window_size=4,
                out_indices=(1, )),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=16)))
    graph, images = StudentGraph(model.eval()).eval(), sample_images(
        digits(32), (32, 32))
    assert to_torchscript(graph, tmp_path / 'a.torchscript', images) < 1e-5
    assert to_onnx(graph, tmp_path / 'a.onnx', images) < 1e-5


def test_a_network_that_is_no_graph(run, tmp_path):
    """The error gives the reason."""
    path, model = export_student(str(run[0]), str(tmp_path / 'student.pth'))
    cfg = Config.fromfile(path.with_suffix('.py'))
    model.forward = lambda images: 'no tensor'
    with pytest.raises(
            ConversionError, match='CIFARResNet cannot be exported as '):
        write_graphs(model, cfg, ['torchscript'], None)


def test_a_network_that_asks_for_values(run, tmp_path):
    """The reason is torch's own, in one line and without colors."""
    path, model = export_student(str(run[0]), str(tmp_path / 'student.pth'))
    cfg, forward = Config.fromfile(path.with_suffix('.py')), model.forward
    model.forward = lambda images: forward(images) * (2 if images.mean() > 0
                                                      else 1)
    with pytest.raises(ConversionError, match='as onnx: ') as info:
        write_graphs(model, cfg, ['onnx'], None)
    text = str(info.value)
    assert '\x1b' not in text and '\n' not in text
    assert 'ExportError' not in text and 'data-dependent' in text


def digits(size, *steps, **dataset):
    """A config with a test pipeline."""
    dataset = dict(
        dict(
            type='DigitScenes',
            split='test',
            num_scenes=3,
            size=size,
            pipeline=[*steps, dict(type='PackInputs')]), **dataset)
    return Config(dict(test_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize('cfg, size', [
    (digits(40), (40, 40)),
    (digits(40, dict(type='CenterCrop', crop_size=24)), (24, 24)),
    (digits(40, dict(type='ResizeEdge', scale=30)), (30, 30)),
    (digits(
        40,
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=72),
        dict(type='CenterCrop', crop_size=64),
        type='ImageNet'), (64, 64)),
    (digits(40, type='VerifiedCIFAR100', data_root='/nowhere'), (32, 32)),
])
def test_images_are_as_large_as_in_the_test(cfg, size):
    assert sample_images(cfg).shape == (2, 3, *size)
    assert sample_images(cfg, (48, 56)).shape == (2, 3, 48, 56)


@pytest.mark.parametrize('cfg', [
    digits(
        40,
        dict(type='LoadImageFromFile'),
        type='CustomDataset',
        data_root='/nowhere'),
    Config(dict())
])
def test_an_unknown_size_of_images_is_an_error(cfg):
    with pytest.raises(ConversionError, match='--image-size HEIGHT WIDTH'):
        sample_images(cfg)
    with pytest.raises(ConversionError, match='must be positive'):
        sample_images(cfg, (0, 3))


@pytest.mark.parametrize('steps, dataset, shape, text', [
    ([dict(type='LoadImageFromFile')], dict(type='ImageNet'),
     (3, 20, 24), ' from 0 to 255, BGR'),
    ([], dict(type='VerifiedCIFAR100'), (3, 20, 24), ' from 0 to 255, RGB'),
    ([], {}, (3, 20, 24), ' from 0 to 255, as its pipeline gives them'),
    ([
        dict(type='LoadImageFromFile', color_type='grayscale'),
        dict(type='Resize', scale=9)
    ], dict(type='CustomDataset'),
     (1, 20, 24), ' from 0 to 255, as its pipeline gives them, after Resize'),
    ([
        dict(type='LoadImageFromFile'),
        dict(type='NumpyToPIL', to_rgb=True),
        dict(type='torchvision/ToTensor')
    ], dict(type='CustomDataset'),
     (3, 20, 24), ', as its pipeline gives them, after NumpyToPIL, '
     'torchvision/ToTensor'),
])
def test_what_graphs_are_given(steps, dataset, shape, text):
    cfg = digits(40, *steps, **dataset)
    assert sample_images(cfg, shape[1:]).shape == (2, *shape)
    assert describe_images(cfg) == text


def test_inferencers_need_a_test_dataloader(run):
    cfg = copy.deepcopy(run[2])
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    found = plain_config(cfg)
    assert found.test_dataloader == found.val_dataloader
    assert found.test_evaluator == found.val_evaluator
    assert found.test_cfg == {}


def test_inferencers_load_images_themselves(run):
    cfg = copy.deepcopy(run[2])
    load = [dict(type='mmpretrain.LoadImageFromFile')]
    pack = [dict(type='PackInputs')]
    cfg.test_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[dict(type='CustomDataset', pipeline=load + pack)])
    found, = plain_config(cfg).test_dataloader.dataset.datasets
    assert found.pipeline == [dict(type='LoadImageFromFile'), *pack]


def test_preprocessing_is_compared_whole(run, tmp_path):
    _, model = export_student(str(run[0]), str(tmp_path / 'student.pth'))
    model.data_preprocessor.pad_size_divisor = 24
    with pytest.raises(ConversionError, match='other logits.*data_prepr'):
        to_torchscript(
            StudentGraph(model).eval(), tmp_path / 'a.torchscript',
            255 * torch.rand(2, 3, 32, 32))


def test_the_plain_config_keeps_what_it_needs(run):
    cfg = copy.deepcopy(run[2])
    cfg.model.data_preprocessor = dict(cfg.data_preprocessor, mean=[1.0] * 3)
    cfg.custom_imports = dict(imports=['sdd_mm', 'mynet'])
    test = dict(cfg.val_dataloader.dataset)
    cfg.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[test, test])
    cfg.val_dataloader = dict(
        cfg.val_dataloader,
        collate_fn=dict(type='batch_or_collate'),
        dataset=dict(type='InMemoryDataset', dataset=test))
    plain = plain_config(cfg)
    # MMEngine's runner takes the model's own before that of the config
    assert plain.data_preprocessor.mean == [1.0] * 3
    assert 'data_preprocessor' not in plain.model
    assert plain.custom_imports.imports == ['sdd_mm', 'mynet']
    assert plain.test_dataloader.dataset.type == 'ConcatDataset'
    assert plain.val_dataloader.dataset.type == 'DigitScenes'
    assert 'collate_fn' not in plain.val_dataloader


def test_nothing_is_overwritten(run, tmp_path):
    target = tmp_path / 'student.pth'
    target.with_suffix('.py').write_text('mine = 1')
    for path, message in ((target, 'student.py exists.*--force'),
                          (run[0], 'is the checkpoint to export'),
                          (target.with_suffix('.py') / 'a.pth',
                           'cannot be written')):
        with pytest.raises(ConversionError, match=message):
            export_student(str(run[0]), str(path))
    assert target.with_suffix('.py').read_text() == 'mine = 1'
    assert not target.exists()
    export_student(str(run[0]), str(target), force=True)
    assert target.exists()


def test_an_exported_student_knows_its_images(run, tmp_path):
    path, model = export_student(str(run[0]), str(tmp_path / 'student.pth'))
    meta = torch.load(path)['meta']
    assert stated_mismatch(model, meta) is None
    model.data_preprocessor.mean += 1
    assert 'mean [60, 64, 68]' in stated_mismatch(model, meta)


def cut_head(content):
    for part in ('state_dict', 'ema_state_dict'):
        content[part] = {
            name: value
            for name, value in content[part].items() if 'head.fc' not in name
        }


def poison(content):
    content['state_dict']['architecture.head.fc.bias'][0] = float('nan')


@pytest.mark.parametrize('change, message', [
    (cut_head, 'missing.*head.fc.weight'),
    (poison, 'not finite.*head.fc.bias'),
    (lambda content: content.pop('state_dict'), 'holds no state dict'),
    (lambda content: content['meta'].pop('cfg'), 'no config.*--config'),
    (lambda content: content['meta'].update(cfg='a = print()'),
     'no plain config'),
    (lambda content: content['meta'].update(cfg='a = ('),
     'cannot be read.*with --config'),
    (lambda content: content['meta'].update(cfg='a = 1'), 'has no `model`'),
    (lambda content: content.update(meta=[1]), 'is damaged'),
    (lambda content: content['state_dict'].update({1: 2}),
     'holds no state dict'),
])
def test_what_is_no_student_is_refused(run, tmp_path, change, message):
    content = torch.load(run[0])
    change(content)
    torch.save(content, tmp_path / 'bad.pth')
    with pytest.raises(ConversionError, match=message):
        export_student(str(tmp_path / 'bad.pth'), str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'out.pth').exists()


def test_the_documented_ways_to_use_it(run, tmp_path, monkeypatch):
    page = (ROOT / 'docs' / 'en' / 'get_started.md').read_text()
    section = page.split('## Export the student')[1].split('\n## ')[0]
    monkeypatch.chdir(tmp_path)
    ModelHub._register_mmpretrain_models()
    monkeypatch.setattr(ModelHub, '_models_dict', dict(ModelHub._models_dict))
    export_student(str(run[0]), 'student.pth')
    scene = DigitScenes('test', 5)[4]
    cv2.imwrite('image.png', scene['img'])
    found = []
    for block in section.split('```python\n')[1:]:
        *lines, last = block.split('```')[0].strip().splitlines()
        space = {}
        exec('\n'.join(lines), space)
        found.append(eval(last, space))
    by_hand, by_name = found
    assert by_hand[0]['pred_label'] == by_name['pred_label']
    assert np.array_equal(by_hand[0]['pred_scores'], by_name['pred_scores'])


def test_names_of_several_processes(run, tmp_path):
    content = torch.load(run[0])
    del content['ema_state_dict']
    content['state_dict'] = {
        f'module.{name}': value
        for name, value in content['state_dict'].items()
    }
    torch.save(content, tmp_path / 'ddp.pth')
    path, _ = export_student(
        str(tmp_path / 'ddp.pth'), str(tmp_path / 'out.pth'))
    wanted, _ = export_student(str(run[0]), str(tmp_path / 'plain.pth'))
    found, wanted = (torch.load(one)['state_dict'] for one in (path, wanted))
    assert list(found) == list(wanted)


def test_all_files_or_none(run, tmp_path, monkeypatch):
    given = str(run[0]), str(tmp_path / 'student.pth')
    with pytest.raises(ConversionError, match='must be positive'):
        export_student(*given, graphs=['torchscript'], image_size=(0, 4))
    with monkeypatch.context() as patch:
        patch.setattr('sdd_mm.converters.graph.TOLERANCE', -1.)
        with pytest.raises(ConversionError, match='other logits'):
            export_student(*given, graphs=['torchscript'])
    assert not list(tmp_path.iterdir())
    mine = tmp_path / 'student.torchscript'
    mine.write_text('mine')
    with pytest.raises(ConversionError, match='exists: choose'):
        export_student(*given, graphs=['torchscript'])
    assert list(tmp_path.iterdir()) == [mine] and mine.read_text() == 'mine'
    export_student(*given, graphs=['torchscript'], force=True)
    torch.jit.load(str(mine))


def test_another_config_and_suffix(run, tmp_path):
    with pytest.raises(ConversionError, match='another shape.*head.fc'):
        cfg = copy.deepcopy(run[2])
        cfg.model.architecture.head.num_classes = 12
        cfg.dump(str(tmp_path / 'other.py'))
        export_student(
            str(run[0]), str(tmp_path / 'out.pth'), str(tmp_path / 'other.py'))
    with pytest.raises(ConversionError, match='--config is not that of the'):
        cfg = copy.deepcopy(run[2])
        cfg.data_preprocessor.mean = [1.0, 2.0, 3.0]
        cfg.dump(str(tmp_path / 'another.py'))
        export_student(
            str(run[0]), str(tmp_path / 'out.pth'),
            str(tmp_path / 'another.py'))
    with pytest.raises(ConversionError, match='none.py'):
        export_student(
            str(run[0]), str(tmp_path / 'out.pth'), str(tmp_path / 'none.py'))
    with pytest.raises(ConversionError, match='must end in .pth'):
        export_student(str(run[0]), str(tmp_path / 'out.onnx'))


def test_the_command(run, tmp_path, monkeypatch, capsys):
    tool = str(ROOT / 'tools' / 'model_converters' / 'export_student.py')
    target = str(tmp_path / 'student.pth')
    monkeypatch.setattr(sys, 'argv', [
        tool,
        str(run[0]), target, '--torchscript', '--image-size', '40', '48'
    ])
    runpy.run_path(tool, run_name='__main__')
    assert 'images (B, 3, 40, 48) from 0 to 255' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'student.pth', 'student.py', 'student.torchscript', 'student.yml'
    ]


def test_graphs_say_what_they_take(run, tmp_path):
    path, _ = export_student(
        str(run[0]),
        str(tmp_path / 'student.pth'),
        graphs=['onnx', 'torchscript'])
    session = onnxruntime.InferenceSession(str(path.with_suffix('.onnx')))
    facts = session.get_modelmeta().custom_metadata_map
    extra = {METADATA: ''}
    torch.jit.load(str(path.with_suffix('.torchscript')), _extra_files=extra)
    assert json.loads(extra[METADATA]) == facts
    meta = torch.load(path)['meta']
    assert json.loads(facts['classes']) == list(meta['dataset_meta'].get(
        'classes', ()))
    cfg = Config.fromfile(path.with_suffix('.py'))
    assert json.loads(facts['mean']) == list(cfg.data_preprocessor.mean)
    assert (facts['height'], facts['width']) == ('32', '32')
    assert [step['type'] for step in json.loads(facts['pipeline'])
            ] == [step.type for step in cfg.test_dataloader.dataset.pipeline]
