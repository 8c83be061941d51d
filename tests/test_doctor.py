# Copyright (c) sdd_mm contributors. All rights reserved.
"""The doctor finds what is wrong, and only that."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch.utils.data import DataLoader

from sdd_mm.analysis import evenly_spaced
from sdd_mm.doctor import ENOUGH
from sdd_mm.doctor.__main__ import main, parse_args
from sdd_mm.doctor.installation import installation
from sdd_mm.doctor.teacher import _renumbered
from sdd_mm.doctor.trial import set_up

ROOT = Path(__file__).resolve().parents[1]
# digits without others around them and without noise: learnt in four epochs
PLAIN = {
    f'{loader}_dataloader.dataset.{key}': value
    for loader in ('train', 'val')
    for key, value in (('others', 0), ('noise', 0.0), ('num_scenes', 500))
}


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A teacher that has learnt something."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'teacher.py')
    cfg.merge_from_dict({
        **PLAIN, 'train_dataloader.dataset.num_scenes': 1500,
        'train_cfg.max_epochs': 4,
        'param_scheduler.total_steps': 4,
        'work_dir': str(tmp_path_factory.mktemp('teacher')),
        'experiment_name': 'doctor'
    })
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir) / 'epoch_4.pth'


def ask(capsys, teacher, name='sd-kd', **options):
    """Exit code and findings by their titles."""
    if not any('_delete_' in key for key in options):
        options = {**PLAIN, **options}
    options = {'model.teacher_ckpt': str(teacher), **options}
    arguments = [
        f'{key}={value}' for key, value in options.items() if value is not None
    ]
    path = ROOT / 'configs' / 'demo' / f'{name}.py'
    code = main([
        str(path), '--steps', '2', '--batches', '2', '--cfg-options',
        *arguments
    ])
    found, title = {}, None
    for line in capsys.readouterr().out.splitlines():
        title = line[9:29].strip() or title
        mark, text = found.get(title, (line[:7].strip(), ''))
        found[title] = mark, f'{text}{line[30:]} '
    return code, found


def test_a_fork_beside_the_package_it_stands_for(tmp_path, monkeypatch):
    info = tmp_path / 'onedl_mmengine-0.10.12.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: onedl-mmengine\nVersion: 0.10.12\n')
    monkeypatch.syspath_prepend(tmp_path)
    findings = {one.title: one for one in installation()}
    assert 'onedl-mmengine 0.10.12, mmengine' in findings['versions'].text
    assert findings['mmengine'].mark == 'error'
    assert 'uninstall both' in findings['mmengine'].text


def test_a_good_set_up(capsys, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, found = ask(capsys, teacher)
    assert code == 0 and 'error' not in {mark for mark, _ in found.values()}
    texts = {title: text for title, (_, text) in found.items()}
    assert 'versions' not in texts  # of the installation
    order = ['config', 'train', 'val', 'images', 'teacher', 'student', 'cells']
    assert [*texts][:7] == order and [*texts][-1] == 'cost'
    assert re.search(r'[\d,]+ parameters, \d+%', texts['student'])
    assert re.search(r'an epoch, .* for 12 epochs', texts['cost'])
    assert '500 images, 10 classes' in texts['val']
    assert 'of student and teacher' in texts['images']
    assert 'of 500 images' in texts['teacher']
    assert 'teacher: map 8 x 8 of 64 channels' in texts['cells']
    for role in ('student', 'teacher'):
        difference = re.search(f'{role} (.e-..)', texts['heads'])
        assert float(difference[1]) < 1e-5
    assert 'distill.loss_sdd' in texts['losses']
    assert 's a step of 64 images' in texts['cost']
    assert not list(tmp_path.iterdir())  # nothing is written


def test_the_installation_is_shown_if_asked_or_broken(capsys, teacher,
                                                      monkeypatch):
    assert main([]) == 0
    alone = capsys.readouterr().out
    version = f'torch {torch.__version__.split("+")[0]}'
    assert version in alone and 'allow_checkpoint' in alone
    assert 'losses/scale_decoupled_loss.py' in alone
    config = str(ROOT / 'configs' / 'demo' / 'none.py')
    assert main([config, '--installation']) == 1
    asked = capsys.readouterr().out
    # other processes take memory meanwhile
    alone, asked = (re.sub(r'[\d.]+ GB', 'GB', one) for one in (alone, asked))
    assert asked.startswith(alone) and 'none.py' in asked
    monkeypatch.setattr('sdd_mm.doctor.installation.CLASSES',
                        [(MODELS, 'SDDDistiller'), (MODELS, 'NoSuchClass')])
    assert main([config]) == 1
    broken = capsys.readouterr().out
    assert broken.startswith(
        'error    NoSuchClass') and 'SDDDist' not in broken


def other_weights(teacher, path):
    """A network as good as none."""
    content = torch.load(teacher)
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'teacher.py')
    content['state_dict'] = MODELS.build(cfg.model).state_dict()
    torch.save(content, path)


def other_classes(teacher, path):
    """The right network, its classes in another order."""
    content = torch.load(teacher)
    for name in ('head.fc.weight', 'head.fc.bias'):
        value = content['state_dict'][name]
        content['state_dict'][name] = value.roll(1, 0)
    torch.save(content, path)


@pytest.mark.parametrize('change, message',
                         [(other_weights, 'close to chance level.*teacher_ck'),
                          (other_classes, 'classes have another order')])
def test_a_wrong_teacher(capsys, teacher, tmp_path, change, message):
    change(teacher, tmp_path / 'wrong.pth')
    code, found = ask(capsys, tmp_path / 'wrong.pth')
    mark, text = found['teacher']
    assert code == 1 and mark == 'error' and 'cost' not in found
    assert re.search(message, text)


def test_few_images_are_sorted_alike_by_anyone():
    verdicts, labels = torch.arange(40), torch.arange(40).roll(3)
    assert _renumbered(verdicts, labels) == 0
    verdicts, labels = torch.arange(40) % 8, (torch.arange(40) + 3) % 8
    assert _renumbered(verdicts, labels) == 1
    assert _renumbered(torch.zeros(40).long(), labels) == 1 / 8


@pytest.mark.parametrize('options, message', [
    ({
        'data_preprocessor.mean': '[0.5,0.5,0.5]',
        'model.teacher.data_preprocessor.mean': '[0.5,0.5,0.5]'
    }, 'trained on images normalized by mean [64, 64, 64]'),
    ({
        'data_preprocessor.mean': '[0.5,0.5,0.5]'
    }, 'normalized'),
    ({
        'train_dataloader.dataset._delete_': 'True',
        'train_dataloader.dataset.type': 'VerifiedCIFAR100',
        'train_dataloader.dataset.split': 'train',
        'train_dataloader.dataset.pipeline': '[]',
        'train_dataloader.dataset.data_root': '/nowhere'
    }, '/nowhere'),
    ({
        'model.teacher_ckpt': '/nowhere/teacher.pth'
    }, '/nowhere/teacher.pth does not exist'),
    ({
        'model.distiller.distill_losses.loss_sdd.scale': '1'
    }, 'scale'),
    ({
        'modle.student_loss_weight': '1'
    }, 'modle'),
])
def test_a_wrong_config(capsys, teacher, options, message):
    code, found = ask(capsys, teacher, **options)
    mark, text = found['config']
    assert code == 1 and mark == 'error' and message in text, text
    assert 'teacher' not in found


@pytest.mark.parametrize('mean, std', [(0.5, 0.25), (6400., 6400.)])
def test_a_normalization_in_other_units(capsys, mean, std):
    code, found = ask(
        capsys, None, 'student', **{
            'model.teacher_ckpt': None,
            'data_preprocessor.mean': [mean] * 3,
            'data_preprocessor.std': [std] * 3
        })
    mark, text = found['images']
    assert code == 1 and mark == 'error' and 'losses' not in found
    assert 'data_preprocessor.mean' in text and '0 to 255' in text


@pytest.mark.parametrize('mean', [0., 110.])
def test_pixels_that_are_not_scaled(capsys, mean):
    code, found = ask(
        capsys, None, 'student', **{
            'model.teacher_ckpt': None,
            'data_preprocessor.mean': [mean] * 3,
            'data_preprocessor.std': [1.] * 3
        })
    assert code == 0 and found['images'][0] == ''


def test_a_teacher_that_saw_few_images(capsys, teacher, tmp_path):
    """Those of ten batches of one are not enough."""
    key = 'val_dataloader'
    other_classes(teacher, tmp_path / 'wrong.pth')
    code, found = ask(capsys, tmp_path / 'wrong.pth',
                      **{f'{key}.dataset.num_scenes': '8'})
    mark, text = found['teacher']
    assert (code, mark) == (0, 'warning'), text
    assert 'of 8 images: too few images to tell' in text
    argument = parse_args(['a.py']).batches
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'sd-kd.py')
    cfg.merge_from_dict({
        **PLAIN, 'model.teacher_ckpt': str(teacher),
        f'{key}.batch_size': 1
    })
    texts = {
        finding.title: finding.text
        for finding in set_up(cfg, argument, 1)
    }
    assert f'of {ENOUGH} images' in texts['teacher']


@pytest.mark.parametrize('given', ['convert', 'ignore'])
def test_other_images_for_the_teacher(capsys, teacher, given):
    code, found = ask(
        capsys, teacher, **{
            'data_preprocessor.mean': '[-192.0,-192.0,-192.0]',
            'model.on_normalization_mismatch': given
        })
    assert 'teacher: mean [64, 64, 64]' in found['images'][1]
    # a scene that is 4 brighter in all than the teacher knows it
    assert (code, found['teacher'][0]) == ((0, 'ok') if given == 'convert' else
                                           (1, 'error'))


def test_a_teacher_is_asked_about_all_classes(capsys, teacher, tmp_path):
    """And not only about those that come first."""
    content = torch.load(teacher)
    content['state_dict']['head.fc.weight'].zero_()
    content['state_dict']['head.fc.bias'][:] = torch.eye(10)[3]
    torch.save(content, tmp_path / 'constant.pth')
    code, found = ask(capsys, tmp_path / 'constant.pth')
    assert code == 1 and found['teacher'][0] == 'error'
    loader = evenly_spaced(DataLoader(range(1000), batch_size=10), 100)
    assert torch.cat(list(loader))[[0, 50, 99]].tolist() == [0, 505, 999]


def test_a_loader_without_batches(capsys, teacher):
    code, found = ask(
        capsys, teacher, **{
            'train_dataloader.batch_size': 2000,
            'train_dataloader.drop_last': 'True'
        })
    assert code == 1 and 'train_dataloader.drop_last' in found['config'][1]


def test_a_loss_that_is_not_finite_or_cannot_be(capsys, teacher):
    code, found = ask(capsys, teacher,
                      **{'optim_wrapper.optimizer.lr':
                         '1e38'}, **{'optim_wrapper.clip_grad': 'None'})
    assert code == 1 and 'error' in (found['losses'][0], found['cost'][0])


def test_an_optimizer_that_only_mmpretrain_has(capsys, teacher):
    code, found = ask(
        capsys, teacher, **{
            'optim_wrapper.optimizer._delete_': 'True',
            'optim_wrapper.optimizer.type': 'Lamb',
            'optim_wrapper.optimizer.lr': '0.001'
        }, **{'data_preprocessor.num_classes': '10'}, **PLAIN)
    assert code == 0 and found['losses'][0] == 'ok'


def test_what_is_said_and_is_no_mistake(capsys):
    """A teacher that is meant to be untrained, and cells that repeat."""
    code, found = ask(
        capsys, 'None', **{
            'model.allow_untrained_teacher': 'True',
            'model.distiller.distill_losses.loss_sdd.scales': '(1,16)'
        })
    assert code == 0
    assert 'its outputs are noise' in found['teacher'][1]
    assert found['cells'][0] == 'warning' and 'repeat cells' in found['cells'][
        1]


@pytest.mark.parametrize(
    'name', ['fitnet', 'rkd', 'sp', 'pkt', 'crd', 'semckd', 'reviewkd', 'mgd'])
def test_the_other_methods(capsys, teacher, name):
    options = {'train_dataloader.dataset.num_scenes': 1500}
    code, found = ask(capsys, teacher, name, **options)
    assert code == 0 and 'distill.loss_' in found['losses'][1]
    learned = name in ('fitnet', 'crd', 'semckd', 'reviewkd', 'mgd')
    assert ('parameters beside' in found.get('method', ('', ''))[1]) == learned


def test_a_network_alone(capsys, teacher):
    code, found = ask(capsys, teacher, 'student',
                      **{'model.teacher_ckpt': None})
    assert code == 0 and {'cost', 'images'} < set(found)
    pixels = re.search('pixels of mean (.*) and std (.*) ', found['images'][1])
    # scenes are dark: 64 and 64 are not quite theirs
    assert abs(float(pixels[1])) < 1 and 0.5 < float(pixels[2]) < 2
    assert not {'teacher', 'cells'} & set(found)


def test_the_command():
    done = subprocess.run([sys.executable, '-m', 'sdd_mm.doctor'],
                          env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          capture_output=True,
                          text=True)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'mmrazor 1.0.0' in done.stdout and 'device' in done.stdout


def test_a_config_that_is_not_there(capsys):
    assert main(['no.py']) == 1
    assert 'error    config' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, code', [(['--help'], 0),
                                             (['--steps', 'many'], 2)])
def test_arguments_are_parsed_before_torch_is_imported(arguments, code):
    done = subprocess.run([
        sys.executable, '-X', 'importtime', '-m', 'sdd_mm.doctor', *arguments
    ],
                          env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          capture_output=True,
                          text=True)
    assert done.returncode == code and 'usage:' in done.stdout + done.stderr
    imported = {
        line.split('|')[-1].strip()
        for line in done.stderr.split('\n')
    }
    assert 'sdd_mm.version' in imported
    assert not {'torch', 'numpy', 'mmengine'} & imported


def test_a_command_of_another_package_finds_everything_registered(tmp_path):
    """While Python looks for it, too, sys.argv[0] is '-m'."""
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs' / '__init__.py').write_text('import sdd_mm\n')
    (tmp_path / 'theirs' / 'run.py').write_text(
        'from mmrazor.registry import MODELS\n'
        'print(MODELS.get("SDDDistiller").__name__)\n')
    done = subprocess.run([sys.executable, '-m', 'theirs.run'],
                          env=dict(
                              os.environ, PYTHONPATH=f'{ROOT}:{tmp_path}'),
                          capture_output=True,
                          text=True)
    assert 'SDDDistiller' in done.stdout, done.stderr


def test_modules_that_a_config_imports_find_the_public_names(tmp_path):
    """The command imports them after its arguments only."""
    (tmp_path / 'theirs.py').write_text(
        'from sdd_mm import FeatureHead\n'
        'from sdd_mm.functional import kd_loss\n'
        'raise ValueError(FeatureHead.__name__ + kd_loss.__name__)\n')
    config = tmp_path / 'config.py'
    config.write_text("custom_imports = dict(imports=['theirs'])\n")
    done = subprocess.run([sys.executable, '-m', 'sdd_mm.doctor',
                           str(config)],
                          env=dict(
                              os.environ, PYTHONPATH=f'{ROOT}:{tmp_path}'),
                          capture_output=True,
                          text=True)
    assert 'ValueError: FeatureHeadkd_loss' in done.stdout, done.stderr
