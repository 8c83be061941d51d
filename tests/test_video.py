# Copyright (c) sdd_mm contributors. All rights reserved.
"""Recognizers of mmaction2 distill: frames are averaged, then as images."""
from pathlib import Path

import clips
import commands
import pytest
import torch
from clips import KD, SDD, batch, build, needs_mmaction, network
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, load_checkpoint
from mmrazor.registry import MODELS
from torch.nn.functional import adaptive_avg_pool3d, kl_div, linear
from torch.optim import SGD

from sdd_mm.config_file import load_config
from sdd_mm.doctor import BAD
from sdd_mm.doctor.trial import set_up
from sdd_mm.functional import local_logits
from sdd_mm.models.networks import logits_of
from sdd_mm.models.recorders import FeatureHeadRecorder

ROOT = Path(__file__).resolve().parents[1]


def pyramid(feature, weight, bias):
    """The cells of a clip as the authors pool them, 4 x 4 first."""
    fine = adaptive_avg_pool3d(feature, (1, 4, 4))
    grids = [adaptive_avg_pool3d(fine, (1, m, m)) for m in (1, 2, 4)]
    cells = torch.cat([grid.flatten(2) for grid in grids], dim=2)
    return linear(cells.permute(2, 0, 1), weight, bias)


@pytest.mark.parametrize('size', [(1, 2, 2), (2, 4, 4), (3, 7, 7), (4, 5, 3)])
def test_averaged_frames_give_the_pyramid_of_clips(size):
    draw = torch.Generator().manual_seed(0)
    feature, weight, bias = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in ((2, 8, *size), (5, 8), (5, )))
    ours = local_logits(
        feature.mean(2), weight, bias, (1, 2, 4), 'hierarchical')
    assert ours.shape == (21, 2, 5)
    theirs = pyramid(feature, weight, bias)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


@needs_mmaction
def test_a_recognizer_has_the_cells_of_that_pyramid():
    model = network(**clips.recognizer()).double().eval()
    head, maps = model.cls_head, []
    head.avg_pool.register_forward_pre_hook(
        lambda module, args: maps.append(args[0]))
    recorder = FeatureHeadRecorder()
    recorder.initialize(model)
    inputs = torch.randn(2, 1, 3, 8, 64, 96, dtype=torch.float64)
    with torch.no_grad(), recorder:
        own = logits_of(model, inputs)
    record, = recorder.data_buffer
    assert maps[0].shape == (2, 64, 4, 2, 3) and own.shape == (2, 3)
    theirs = pyramid(maps[0], head.fc_cls.weight, head.fc_cls.bias)
    scale = theirs.abs().max().item()
    torch.testing.assert_close(
        record.local_logits((1, 2, 4)), theirs, rtol=0, atol=1e-14 * scale)
    torch.testing.assert_close(
        record.logits(), own, rtol=0, atol=1e-14 * scale)


@needs_mmaction
def test_kd_compares_the_logits_of_both_heads():
    model = build(KD).double()
    for one in (model.student, model.teacher):
        torch.nn.init.normal_(one.cls_head.fc_cls.weight)
    data = model.data_preprocessor(batch())
    data['inputs'] = data['inputs'].double()
    maps = []
    model.student.cls_head.avg_pool.register_forward_pre_hook(
        lambda module, args: maps.append(args[0]))
    for step in range(2):  # from the second on the teacher ends at its map
        found = model(**data, mode='loss')['distill.loss_distill']
        head = model.student.cls_head.fc_cls
        # the map of the step: a check runs the student once more
        student = head(maps[0].mean((2, 3, 4))).div(4).log_softmax(1)
        teacher = model.teacher(data['inputs'], stage='head').div(4)
        expected = 16 * kl_div(
            student, teacher.softmax(1), reduction='batchmean')
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        maps.clear()


@needs_mmaction
@pytest.mark.parametrize('loss', [KD, SDD], ids=['kd', 'sdd'])
def test_the_student_learns_and_the_teacher_stays_to_the_bit(loss):
    model = build(dict(loss, loss_weight=10.))
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    optimizer = SGD(model.student.parameters(), lr=0.01)
    first = model.student.backbone.conv1.conv.weight
    for _ in range(3):
        data = model.data_preprocessor(batch(), True)
        losses = model(**data, mode='loss')
        optimizer.zero_grad()
        losses['distill.loss_distill'].backward()
        assert first.grad.abs().max() > 0
        optimizer.step()
    assert all(
        torch.equal(value, before[name])
        for name, value in model.teacher.state_dict().items())
    assert not any(module.training for module in model.teacher.modules())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('clips')
    clips.write_clips(path, 'train', 12, seed=0)
    clips.write_clips(path, 'val', 6, seed=1)
    teacher = network(**clips.recognizer(50))
    torch.save(dict(state_dict=teacher.state_dict(), meta={}), path / 't.pth')
    return path


@needs_mmaction
@pytest.mark.parametrize('loss', [KD, SDD], ids=['kd', 'sdd'])
def test_a_training_gives_a_student_that_mmaction2_uses(
        tmp_path, folder, loss):
    config = clips.write_config(tmp_path / 'run.py', folder,
                                clips.distilling(loss, f'{folder}/t.pth'))
    result = commands.run(ROOT / 'tools/train.py', config, '--work-dir',
                          tmp_path / 'run')
    assert result.returncode == 0, result.stdout
    lines = clips.scalars(tmp_path / 'run')
    steps = [line for line in lines if 'distill.loss_distill' in line]
    assert len(steps) == 6
    assert all(0 < line['distill.loss_distill'] < 100 for line in steps)
    top1 = [line['acc/top1'] for line in lines if 'acc/top1' in line][-1]

    student = network(**clips.recognizer(), data_preprocessor=clips.NORMALIZED)
    load_checkpoint(
        student,
        str(tmp_path / 'run/epoch_2.pth'),
        strict=True,
        revise_keys=[(r'^architecture\.', '')])
    with DefaultScope.overwrite_default_scope('mmaction'):
        loader = Runner.build_dataloader(
            dict(
                Config.fromfile(config).val_dataloader,
                collate_fn=dict(type='pseudo_collate')))
    found = [one for data in loader for one in student.eval().val_step(data)]
    right = [int(one.pred_label) == int(one.gt_label) for one in found]
    assert len(found) == 6 and sum(right) / 6 == pytest.approx(top1)
    assert found[0].pred_score.sum().item() == pytest.approx(1)


@needs_mmaction
def test_the_config_of_the_page_is_one(tmp_path):
    page = (ROOT / 'docs/en/inputs.md').read_text().split('## Video')[1]
    path = tmp_path / 'run.py'
    path.write_text(page.split('```python\n')[1].split('```')[0])
    cfg = load_config(str(path))
    assert cfg.default_scope == 'mmaction'
    model = MODELS.build(cfg.model)
    assert model.distiller.teacher_head.where == (
        'input of cls_head.avg_pool, classifier cls_head.fc_cls')
    assert model.student.backbone.depth == 18 and model.convert is None


@needs_mmaction
def test_the_doctor_tries_the_teacher_and_the_cells(tmp_path, folder):
    config = clips.write_config(tmp_path / 'run.py', folder,
                                clips.distilling(SDD, f'{folder}/t.pth'))
    found = {
        one.title: one
        for one in set_up(Config.fromfile(config), batches=1, steps=2)
    }
    assert not [one for one in found.values() if one.mark == BAD]
    assert 'of 4 images' in found['teacher'].text
    assert 'map 2 x 2 of 256 channels, input of cls_head.avg_pool' in (
        found['cells'].text)


@needs_mmaction
def test_a_label_that_is_no_class_of_the_recognizer_ends_the_run(
        tmp_path, folder):
    listed = (folder / 'train.txt').read_text().replace(' 8 2', ' 8 3')
    (folder / 'other.txt').write_text(listed)
    config = clips.write_config(tmp_path / 'run.py', folder,
                                clips.distilling(KD, f'{folder}/t.pth'))
    result = commands.run(
        ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'run',
        '--cfg-options',
        f'train_dataloader.dataset.ann_file={folder}/other.txt')
    assert result.returncode, result.stdout
    assert 'label 3 is not one of the 3 classes of the student' in (
        result.stdout.splitlines()[-1])


@needs_mmaction
def test_clips_have_the_channels_that_they_are_normalized_for(
        tmp_path, folder):
    two = dict(clips.NORMALIZED, mean=[1., 2.], std=[1., 2.])
    model = clips.distilling(KD, f'{folder}/t.pth')
    model['data_preprocessor'] = dict(two, _scope_='mmaction')
    model['teacher']['data_preprocessor'] = two
    config = clips.write_config(tmp_path / 'run.py', folder, model)
    result = commands.run(ROOT / 'tools/train.py', config, '--work-dir',
                          tmp_path / 'run')
    assert result.returncode and (
        'data_preprocessor.mean has 2 numbers, and images of '
        'train_dataloader have 3 channels') in result.stdout.splitlines()[-1]


@needs_mmaction
def test_commands_for_images_refuse_clips(tmp_path, folder):
    config = clips.write_config(
        tmp_path / 'run.py',
        folder,
        clips.distilling(SDD, f'{folder}/t.pth'),
        epochs=1)
    work_dir = tmp_path / 'run'
    assert commands.run(ROOT / 'tools/train.py', config, '--work-dir',
                        work_dir).returncode == 0
    for script, args, message in (('train.py', (config, '--smoke', 1),
                                   'generates images, not clips'),
                                  ('model_converters/export_student.py',
                                   (work_dir / 'epoch_1.pth',
                                    tmp_path / 'student.pth'),
                                   r"revise_keys=[(r'^architecture\.', '')]"),
                                  ('analysis/report.py',
                                   (work_dir / 'epoch_1.pth', ),
                                   'of images, not of clips')):
        result = commands.run(ROOT / 'tools' / script, *args)
        assert result.returncode and message in result.stdout.splitlines()[-1]
