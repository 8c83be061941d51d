# Copyright (c) sdd_mm contributors. All rights reserved.
"""What an engineer takes away: eight bits, infer.py, an index that moves."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain import (ImageClassificationInferencer, get_model,
                        inference_model)
from mmpretrain.apis import ModelHub
from toy import PREPROCESSOR, classifier

import sdd_mm
from sdd_mm.analysis.validation import validation_loader
from sdd_mm.converters import ConversionError, export_student
from sdd_mm.converters.infer_script import infer_script
from sdd_mm.converters.quantized import CALIBRATION, Run, calibration_loader

COLORS = dict(red=(200, 40, 40), green=(40, 200, 40), blue=(40, 40, 200))
BLOCKED = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'sdd_mm', 'cv2')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A student of colored pictures of many shapes, and its folder."""
    root = tmp_path_factory.mktemp('colors')
    rng = np.random.default_rng(0)
    for part, count in (('train', 8), ('val', 6)):
        for name, color in COLORS.items():
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                size = rng.integers(36, 80, 2)
                image = color[::-1] + rng.normal(0, 90, (*size, 3))
                cv2.imwrite(
                    str(root / part / name / f'{index}.png'),
                    image.clip(0, 255).astype(np.uint8))

    def loader(part):
        return dict(
            batch_size=8,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=part == 'train'),
            dataset=dict(
                type='CustomDataset',
                data_root=str(root / part),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='ResizeEdge', scale=35, backend='pillow'),
                    dict(type='CenterCrop', crop_size=32),
                    dict(type='PackInputs')
                ]))

    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=classifier(num_classes=3, width=16),
            data_preprocessor=dict(PREPROCESSOR, num_classes=3, to_rgb=True),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            val_evaluator=dict(type='Accuracy', topk=(1, )),
            val_cfg=dict(),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=3e-3)),
            randomness=dict(seed=0),
            work_dir=str(root / 'run'),
            experiment_name='colors'))
    runner = Runner.from_cfg(cfg)
    runner.train()
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    path, _ = export_student(
        str(root / 'run' / 'epoch_3.pth'),
        str(root / 'out' / 'student.pth'),
        int8=True)
    return path, accuracy, root


def test_eight_bits(run, capsys):
    path, accuracy, root = run
    plain, small = (
        path.with_suffix(suffix).read_bytes()
        for suffix in ('.onnx', '.int8.onnx'))
    assert len(small) < 0.5 * len(plain)
    facts = [
        onnxruntime.InferenceSession(one).get_modelmeta().custom_metadata_map
        for one in (plain, small)
    ]
    for key in ('classes', 'height', 'channel_order', 'mean', 'pipeline'):
        assert facts[0][key] == facts[1][key]
    loader = validation_loader(Config.fromfile(path.with_suffix('.py')))
    found = [Run(one).measure(loader) for one in (plain, small)]
    assert found[0].accuracy == pytest.approx(accuracy)
    assert abs(found[1].accuracy - accuracy) <= 15
    # eight bits round the logits, and hardly
    images = next(iter(loader))['inputs']
    images = torch.stack(list(images)).float().numpy()
    wanted, rounded = (Run(one).logits(images) for one in (plain, small))
    difference = np.abs(wanted - rounded).max() / np.abs(wanted).max()
    assert 0 < difference < 0.1
    export_student(
        str(root / 'run' / 'epoch_3.pth'), str(path), force=True, int8=True)
    said = capsys.readouterr().out
    assert f'top-1 {accuracy:.2f} % of 18 validation images' in said
    assert 'student.int8.onnx: top-1' in said and 'ms for 32 (CPU)' in said


def test_calibration_takes_training_images_behind_the_test_pipeline(run):
    cfg = Config.fromfile(run[0].with_suffix('.py'))
    loader = calibration_loader(cfg)
    assert len(loader.dataset) == min(CALIBRATION, 24)
    assert {batch['inputs'][0].shape for batch in loader} == {(3, 32, 32)}
    paths = {
        sample.img_path
        for batch in loader
        for sample in batch['data_samples']
    }
    assert all(Path(path).parts[-3] == 'train' for path in paths)
    cfg.pop('train_dataloader')
    with pytest.raises(ConversionError, match='no train_dataloader'):
        calibration_loader(cfg)


def test_the_script_gives_the_validated_accuracy_without_this_package(run):
    path, accuracy, root = run
    script = path.with_name('infer.py')
    text = script.read_text()
    assert len(text.splitlines()) < 35
    pictures = sorted((root / 'val').rglob('*.png'))
    alone = ('import runpy, sys; sys.modules.update(dict.fromkeys('
             f'{BLOCKED}, None)); sys.argv[:] = sys.argv[1:]; '
             "runpy.run_path(sys.argv[0], run_name='__main__')")
    found = subprocess.run([
        sys.executable, '-c', alone, script,
        path.with_suffix('.onnx'), *pictures
    ],
                           capture_output=True,
                           text=True,
                           check=True).stdout.splitlines()
    rows = [line.split('\t') for line in found]
    assert [row[0] for row in rows] == [*map(str, pictures)]
    right = [row[1] == Path(row[0]).parent.name for row in rows]
    assert 100 * sum(right) / len(right) == pytest.approx(accuracy)
    assert all(row[2].endswith('%') for row in rows)


@pytest.mark.parametrize('steps, found', [
    ([dict(type='Resize', scale=40)
      ], 'image.resize((40, 40), Image.BILINEAR)'),
    ([dict(type='Resize', scale=(40, 30), interpolation='bicubic')
      ], 'image.resize((40, 30), Image.BICUBIC)'),
    ([dict(type='ResizeEdge', scale=36, edge='long')], 'if width > height:'),
    ([dict(type='CenterCrop', crop_size=(32, 28))], '(image.height - 28)'),
    ([], 'image.resize((48, 32), Image.BILINEAR)'),
])
def test_scripts_of_other_pipelines(steps, found):
    load = dict(type='LoadImageFromFile', color_type='grayscale')
    cfg = Config(
        dict(
            test_dataloader=dict(
                dataset=dict(
                    type='CustomDataset',
                    pipeline=[load, *steps,
                              dict(type='PackInputs')]))))
    text = infer_script(cfg, (32, 48))
    compile(text, 'infer.py', 'exec')
    assert found in text and "convert('L')" in text
    assert ('OpenCV' in text) == any('Resize' in s['type'] for s in steps)
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Albumentations'))
    assert infer_script(cfg, (32, 48)) is None


def test_the_index_moves_with_its_files(run, tmp_path, monkeypatch):
    path, accuracy, root = run
    moved = tmp_path / 'elsewhere'
    shutil.copytree(path.parent, moved)
    ModelHub._register_mmpretrain_models()
    monkeypatch.setattr(ModelHub, '_models_dict', dict(ModelHub._models_dict))
    assert sdd_mm.register_models(moved / 'student.yml') == ['student']
    picture = str(next((root / 'val' / 'red').iterdir()))
    wanted = get_model(
        str(moved / 'student.py'), pretrained=str(moved / 'student.pth'))
    found = inference_model('student', picture)
    assert found['pred_scores'] == pytest.approx(
        ImageClassificationInferencer(wanted)(picture)[0]['pred_scores'])
    result, = ModelHub.get('student').results.data
    assert result.metrics == {'Top 1 Accuracy': round(accuracy, 2)}
    facts = json.loads(
        onnxruntime.InferenceSession(
            moved /
            'student.onnx').get_modelmeta().custom_metadata_map['classes'])
    assert facts == sorted(COLORS)
