# Copyright (c) sdd_mm contributors. All rights reserved.
"""What `tools/train.py --resume` goes on from."""
import sys
from pathlib import Path

import pytest
import torch

from sdd_mm.engine.errors import PreflightError
from sdd_mm.runtime.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def configure(monkeypatch):
    """The config that the command would train."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import train

    def call(*args, config='demo/student.py'):
        config = ROOT / 'configs' / config
        monkeypatch.setattr(sys, 'argv',
                            ['train.py', *map(str, (config, *args))])
        return train.configure(train.parse_args())

    return call


def save(path):
    path.parent.mkdir(exist_ok=True)
    torch.save(dict(a=torch.ones(2)), path)


def test_the_newest_of_the_work_dir(configure, tmp_path):
    save(tmp_path / 'a' / 'epoch_3.pth')
    for args in (('--work-dir', tmp_path / 'a'), ('--cfg-options',
                                                  f'work_dir={tmp_path}/a')):
        cfg = configure('--resume', *args)
        assert cfg.resume
        assert cfg.load_from == str(tmp_path / 'a' / 'epoch_3.pth')


def test_nothing_yet_starts_as_the_config_says(configure, tmp_path, caplog):
    cfg = configure('--resume', '--work-dir', tmp_path, '--cfg-options',
                    'load_from=pretrained.pth')
    assert not cfg.resume and cfg.load_from == 'pretrained.pth'
    cfg = configure('--work-dir', tmp_path)
    assert not cfg.resume and cfg.load_from is None


def test_a_path_is_taken_as_it_is(configure, tmp_path):
    cfg = configure('--work-dir', tmp_path, '--resume', 'some.pth')
    assert cfg.resume and cfg.load_from == 'some.pth'


@pytest.mark.parametrize('option', ['filename_tmpl=ckpt_{}.pth', 'out_dir=x'])
def test_names_that_are_not_looked_for(configure, tmp_path, option):
    option = f'default_hooks.checkpoint.{option}'
    with pytest.raises(PreflightError, match='--resume PATH'):
        configure('--work-dir', tmp_path, '--resume', '--cfg-options', option)


def test_only_broken_ones_are_no_beginning(configure, tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'broken')
    with pytest.raises(CheckpointError, match='epoch_1.pth.*remove'):
        configure('--work-dir', tmp_path, '--resume')


def test_options_come_before_flags(configure, tmp_path):
    cfg = configure(
        '--work-dir',
        tmp_path / 'a',
        '--auto-scale-lr',
        '--cfg-options',
        f'work_dir={tmp_path}/b',
        'auto_scale_lr.base_batch_size=64',
        'train_dataloader.num_workers=3',
        'val_dataloader.num_workers=0',
        config='vanilla/res8x4_cifar100.py')
    assert cfg.work_dir == str(tmp_path / 'a')
    assert cfg.auto_scale_lr.enable
    assert cfg.train_dataloader.persistent_workers
    assert 'persistent_workers' not in cfg.val_dataloader
