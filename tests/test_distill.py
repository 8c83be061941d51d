# Copyright (c) sdd_mm contributors. All rights reserved.
"""From a folder of pictures to a student, in one command."""
import inspect
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from PIL import Image

import sdd_mm
from sdd_mm.analysis.comparison import Cost, Measured, mcnemar, verdict
from sdd_mm.datasets import DigitScenes
from sdd_mm.distill.__main__ import main, parse_args
from sdd_mm.distill.photos import (PhotosError, find_photos, set_aside,
                                   write_lists)
from sdd_mm.distill.recipe import (NetworkError, data_text, network_text,
                                   read_network, scales_that_fit)
from sdd_mm.distill.result import doubt
from sdd_mm.distill.run import Recipe, _try, distill
from sdd_mm.distill.timing import TimeError, epochs_within, seconds_of
from sdd_mm.errors import SDDError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
DEMO = {
    role: str(CONFIGS / 'demo' / f'{role}.py')
    for role in ('teacher', 'student')
}


def picture(path, seed=0, mode='RGB', size=(40, 48), **kwargs):
    """A real file of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(
        0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **kwargs)


@pytest.fixture
def folder(tmp_path):
    """Class folders with a space, and pictures of many kinds."""
    root = tmp_path / 'my pictures'
    for number, name in enumerate(('a cat', 'dog', 'übel')):
        for index in range(5):
            picture(root / name / f'{index} x.jpg', 10 * number + index)
    picture(root / 'dog' / 'gray.png', mode='L')
    picture(root / 'dog' / 'alpha.png', mode='RGBA')
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture(root / 'a cat' / 'deep' / 'turned.JPG', exif=exif)
    (root / 'dog' / 'broken.jpg').write_bytes(b'<html>404</html>')
    whole = (root / 'dog' / '1 x.jpg').read_bytes()
    (root / 'übel' / 'cut.jpg').write_bytes(whole[:-300])
    (root / 'dog' / 'notes.txt').write_text('no picture')
    (root / 'dog' / 'moving.gif').write_bytes(b'GIF89a')
    (root / 'übel' / 'phone.HEIC').write_bytes(b'ftypheic')
    (root / '.hidden').mkdir()
    return root


def test_classes_are_split_and_what_is_broken_is_left_out(folder):
    found = find_photos(folder)
    assert found.classes == ['a cat', 'dog', 'übel']
    assert (len(found.train), len(found.val)) == (15, 3)
    assert len({*found.train, *found.val}) == 18
    assert {name for _, name in found.val} == {*found.classes}
    text = ' '.join(found.notes)
    assert '2 of 20 files' in text and 'dog/broken.jpg' in text
    assert '2 pictures of formats that are not read' in text
    assert 'dog/moving.gif' in text and 'übel/phone.HEIC' in text
    assert 'übel/cut.jpg' in text and 'seed 0' in text
    assert find_photos(folder) == found
    others = [find_photos(folder, seed).val for seed in (1, 2, 3)]
    assert any(other != found.val for other in others)


def test_folders_for_training_and_validation(folder):
    root = folder.parent / 'split'
    shutil.copytree(folder, root / 'train')
    shutil.copytree(folder / 'dog', root / 'validation' / 'dog')
    found = find_photos(root)
    assert (len(found.train), len(found.val)) == (18, 7)
    assert found.train[0][0].startswith('train/a cat/')
    picture(root / 'validation' / 'cow' / '1.png')
    with pytest.raises(PhotosError, match='classes without .* pictures: cow'):
        find_photos(root)
    shutil.rmtree(root / 'train')
    with pytest.raises(PhotosError, match='has validation, but no train'):
        find_photos(root)


def test_folders_without_classes_are_refused(tmp_path):
    with pytest.raises(PhotosError, match='is not a folder'):
        find_photos(tmp_path / 'nowhere')
    picture(tmp_path / 'one.jpg')
    picture(tmp_path / 'dog' / 'one.jpg')
    with pytest.raises(PhotosError, match=r'pictures of 1 class\(es\)'):
        find_photos(tmp_path)
    picture(tmp_path / 'cat' / 'one.jpg')
    with pytest.raises(PhotosError, match='single picture .*: cat, dog'):
        find_photos(tmp_path)


def test_every_class_has_its_share():
    samples = [(f'{name}{index}', name)
               for name, count in (('a', 2), ('b', 100))
               for index in range(count)]
    train, val = set_aside(samples, 0, 0.2)
    assert sorted([*train, *val]) == sorted(samples)
    assert [name for _, name in val].count('a') == 1
    assert [name for _, name in val].count('b') == 20


def test_the_config_of_the_data_reads_the_pictures(folder, tmp_path):
    photos = find_photos(folder)
    path = tmp_path / 'data.py'
    path.write_text(
        data_text(photos, write_lists(photos, tmp_path), 32, 4, 0),
        encoding='utf-8')
    cfg = Config.fromfile(path)
    for part in ('train', 'val'):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            data = DATASETS.build(cfg[f'{part}_dataloader'].dataset)
        wanted = getattr(photos, part)
        assert len(data) == len(wanted)
        for index, (name, label) in enumerate(wanted):
            sample = data[index]
            assert sample['inputs'].shape == (3, 32, 32)
            assert data.get_data_info(index)['img_path'].endswith(name)
            assert photos.classes[sample['data_samples'].gt_label] == label


def test_a_network_learns_these_classes(tmp_path):
    for name in ('mmpretrain::resnet/resnet18_8xb32_in1k.py',
                 'resnet18_8xb32_in1k'):
        found = read_network('student', name, None, 7)
        assert found.model['head']['num_classes'] == 7
        assert found.checkpoint.startswith('https://') and not found.trained
        assert "init_cfg=dict(\n            type='Pretrained'" in network_text(
            found, 10, 0)
        assert scales_that_fit(found, 96) == (1, 2)
        assert scales_that_fit(found, 224) == (1, 2, 4)
    assert read_network('student', name, 'none', 7).checkpoint is None
    with pytest.raises(NetworkError, match='--student resnet999 is no config'):
        read_network('student', 'resnet999', None, 7)
    with pytest.raises(NetworkError, match='nowhere.pth'):
        read_network('teacher', DEMO['teacher'], 'nowhere.pth', 10)


def test_a_trained_classifier_is_told_from_a_start(tmp_path):
    found = read_network('teacher', DEMO['teacher'], None, 10)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmpretrain.registry import MODELS
        model = MODELS.build(found.model)
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    assert read_network('teacher', DEMO['teacher'], str(path), 10).trained
    assert not read_network('teacher', DEMO['teacher'], str(path), 9).trained


def test_times():
    assert seconds_of('90s') == 90 and seconds_of('1h30m') == 5400
    assert seconds_of('1.5m') == 90
    for text in ('', '30', '5 m', 'm', '3d'):
        with pytest.raises(TimeError, match='like 90s'):
            seconds_of(text)
    assert epochs_within(1000, 8.5) == 100
    with pytest.raises(TimeError, match='5 epochs need 1 min'):
        epochs_within(10, 10)


def test_differences_are_tested_exactly():
    """Against sums of binomial coefficients, written out."""
    generator = torch.Generator().manual_seed(0)
    for count in (3, 20, 200):
        one, other = (
            torch.rand(count, generator=generator) < share
            for share in (0.8, 0.6))
        gained = int((one & ~other).sum())
        both = gained + int((other & ~one).sum())
        chance = [math.comb(both, k) / 2**both for k in range(both + 1)]
        wanted = sum(p for p in chance if p <= chance[gained] * (1 + 1e-9))
        assert mcnemar(one, other) == pytest.approx(wanted)
        said = verdict(one, other)
        assert ('no difference' in said) == (wanted >= 0.05)
        right = one.double().mean().item()
        z, n = 1.959963984540054, count
        center = (right + z * z / 2 / n) / (1 + z * z / n)
        width = z / (1 + z * z / n) * math.sqrt(right * (1 - right) / n +
                                                z * z / 4 / n / n)
        low, high = Measured(one, Cost(0, 0., {}, 0)).interval
        assert low == pytest.approx(100 * (center - width))
        assert high == pytest.approx(100 * (center + width))
    assert mcnemar(one, one) == 1


def test_the_command_has_the_arguments_of_the_function(capsys):
    arguments = ['--data', 'x', '--teacher', 'a', '--student', 'b']
    given = vars(parse_args(arguments))
    wanted = inspect.signature(distill).parameters
    assert set(given) == set(wanted)
    for name, value in given.items():
        if name not in ('data', 'teacher', 'student', 'compare'):
            assert value == wanted[name].default, name
    assert main(arguments) == 1
    assert 'ERROR: --data x is not a folder' in capsys.readouterr().err


def test_arguments_are_parsed_before_torch_is_imported():
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'sdd_mm.distill', '--help'],
        capture_output=True,
        text=True)
    assert done.returncode == 0 and '--compare' in done.stdout
    imported = {
        line.split('|')[-1].strip()
        for line in done.stderr.split('\n')
    }
    assert not {'torch', 'numpy', 'mmengine'} & imported


def test_the_module_is_the_function():
    done = subprocess.run([
        sys.executable, '-c',
        "import sdd_mm; sdd_mm.distill('nowhere', 'a', 'b')"
    ],
                          capture_output=True,
                          text=True)
    assert 'PhotosError: --data nowhere is not a folder' in done.stderr


@pytest.mark.parametrize('changes, message', [
    (dict(method='sd-kdd'), "no method 'sd-kdd'.*Did you mean 'sd-kd'"),
    (dict(image_size=8), 'image-size must be at least 32'),
    (dict(epochs=0), '--epochs must be at least 1'),
    (dict(batch_size=0), '--batch-size must be at least 1'),
    (dict(time='soon'), '--time must be like'),
    (dict(student='resnet999'), '--student resnet999 is no config'),
])
def test_refusals_come_first(folder, tmp_path, changes, message):
    given = dict(
        data=folder, out=tmp_path / 'out', teacher_ckpt='none', **DEMO)
    with pytest.raises(SDDError, match=message):
        sdd_mm.distill(**{**given, **changes})
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('epochs, kinds', [
    (1, ['CosineAnnealingLR']),
    (2, ['LinearLR', 'CosineAnnealingLR']),
    (50, ['LinearLR', 'CosineAnnealingLR']),
])
def test_schedules_of_any_length(tmp_path, epochs, kinds):
    network = read_network('student', DEMO['student'], 'none', 3)
    (tmp_path / 'data.py').write_text('')
    (tmp_path / 'student.py').write_text(network_text(network, epochs, 0))
    schedule = Config.fromfile(tmp_path / 'student.py').param_scheduler
    assert [one.type for one in schedule] == kinds
    end = 0
    for one in schedule:
        assert one.get('begin', 0) == end < one.end
        end = one.end
    assert end == epochs


@pytest.mark.parametrize('teacher, student, doubts', [(70.2, 75.4, 1),
                                                      (75., 75., 1),
                                                      (75.4, 70.2, 0)])
def test_a_teacher_that_knows_no_more_is_doubted(tmp_path, teacher, student,
                                                 doubts):
    assert doubt(tmp_path) == []
    for name, accuracy in (('teacher', teacher), ('student', student)):
        path = tmp_path / name / '1' / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps({
                'accuracy/top1': accuracy,
                'step': 3
            }) + '\n')
    found = doubt(tmp_path)
    assert len(found) == doubts
    if found:
        assert f'The teacher ({teacher:.1f} %)' in found[0]
        assert '--teacher-ckpt' in found[0]


def test_the_batch_is_halved_until_it_fits(folder, tmp_path, monkeypatch,
                                           capsys):
    """There is no GPU here: the first tries end as they do on one."""
    sizes = []

    def seconds(config):
        sizes.append(Config.fromfile(config).train_dataloader.batch_size)
        if sizes[-1] > 5:
            raise torch.OutOfMemoryError
        return 1.

    monkeypatch.setattr('sdd_mm.distill.run.seconds_per_epoch', seconds)
    photos = find_photos(folder)
    networks = {
        role: read_network(role, DEMO[role], 'none', len(photos.classes))
        for role in ('teacher', 'student')
    }
    recipe = Recipe(photos, networks, ['kd'], False, 32, 16, 0, 0)
    assert _try(recipe) == dict(teacher=1., kd=1.)
    assert sizes == [16, 8, 4, 4] and recipe.batch_size == 4
    assert '4 images a step are tried' in capsys.readouterr().out


@pytest.mark.long
def test_from_pictures_to_a_student(tmp_path, capfd):
    """The whole way, and again: what is done is not repeated."""
    scenes = DigitScenes('train', 600, others=0, noise=0.0)
    for index, scene in enumerate(scenes):
        path = tmp_path / 'digits' / f'class {scene["gt_label"]}'
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene['img']).save(path / f'{index}.png')
    given = dict(
        data=tmp_path / 'digits',
        out=tmp_path / 'out',
        teacher_ckpt='none',
        compare=['alone', 'kd'],
        epochs=4,
        image_size=32,
        workers=0,
        **DEMO)
    table = sdd_mm.distill(**given)
    text = table.read_text()
    for title in ('teacher', 'student alone', 'kd', 'sd-kd', 'sd-kd, ONNX',
                  'sd-kd, int8 ONNX'):
        assert f'| {title}' in text
    assert 'sd-kd against kd: ' in text and 'on 120 validation' in text
    for name in ('student.pth', 'student.onnx', 'student.int8.onnx',
                 'infer.py', 'report/report.html', 'configs/sd-kd.py'):
        assert (tmp_path / 'out' / name).is_file()
    capfd.readouterr()
    (tmp_path / 'out/sd-kd/epoch_4.pth').unlink()
    config = tmp_path / 'out/configs/sd-kd.py'
    config.write_text(config.read_text() + '# mine\n')
    assert sdd_mm.distill(**given) == table
    said = capfd.readouterr().out
    assert said.count('is left as it is') == 5 and said.count('$ python') == 4
    assert config.read_text().endswith('# mine\n')
