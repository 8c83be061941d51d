# Copyright (c) sdd_mm contributors. All rights reserved.
"""A training from one network of Hugging Face into another."""
import os
import subprocess
import sys

import torch
from test_hugging_face import ROOT, STUDENT, folder, network, transformers

from sdd_mm import make_config
from sdd_mm.hub import hugging_face

CELLS = dict(
    type='FeatureHead',
    pooling='backbone.net.resnet.pooler',
    head='backbone.net.classifier.1')


def test_from_two_folders_to_a_distilled_network(tmp_path):
    """SDD of two ResNets, trained, exported, and loaded by transformers."""
    folder(tmp_path / 'teacher', 'ResNet')
    small = network('ResNet')
    small.config.save_pretrained(tmp_path / 'student')
    make_config(
        tmp_path / 'plain.py',
        STUDENT,
        f'hf::{tmp_path / "teacher"}',
        'sd-kd',
        teacher_recorder=CELLS,
        on_normalization_mismatch='convert')
    (tmp_path / 'run.py').write_text(f'''
_base_ = ['plain.py']
model = dict(
    architecture=dict(
        _delete_=True, type='ModuleClassifier', _scope_='mmpretrain',
        num_classes=10, module=dict(type='sdd_mm.hub.hugging_face',
                                    folder='student', num_classes=10)),
    distiller=dict(student_recorders=dict(feature_head=dict({CELLS!r}))))
train_dataloader = dict(dataset=dict(num_scenes=128))
val_dataloader = dict(dataset=dict(num_scenes=50))
train_cfg = dict(max_epochs=1)
param_scheduler = dict(total_steps=1)
''')
    paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    environ = dict(
        os.environ, PYTHONPATH=os.pathsep.join(paths), HF_HUB_OFFLINE='1')
    for command in (['tools/train.py', 'run.py', '--work-dir', 'run'], [
            'tools/model_converters/export_student.py', 'run/epoch_1.pth',
            'student.pth'
    ]):
        result = subprocess.run(
            [sys.executable,
             str(ROOT / command[0]), *command[1:]],
            env=environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True)
        assert result.returncode == 0, result.stdout
        if 'train' in command[0]:
            assert result.stdout.count('map 4 x 4 of 16 channels') == 2
    plain = hugging_face(tmp_path / 'student')
    content = torch.load(tmp_path / 'student.pth')['state_dict']
    plain.load_state_dict(content)
    plain.save_pretrained(tmp_path / 'result')
    again = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / 'result')
    assert torch.equal(again.classifier[1].weight,
                       content['classifier.1.weight'])
