# Copyright (c) sdd_mm contributors. All rights reserved.
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def run(*command, **environ):
    subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=dict(os.environ, **environ),
        check=True,
        capture_output=True)


def test_wheel_holds_what_mim_looks_for(tmp_path):
    source = tmp_path / 'source'  # setuptools writes beside setup.py
    run('git', 'clone', '-q', ROOT, source)
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
        '--no-build-isolation', '-w', tmp_path, source)
    names = zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist()
    for name in ('sdd_mm/.mim/model-index.yml', 'sdd_mm/.mim/tools/train.py',
                 'sdd_mm/.mim/configs/sdd/sd-dkd_res50_mbv1_imagenet.py',
                 'sdd_mm/functional/criteria.py'):
        assert name in names
    assert not [name for name in names if name.startswith('tests')]


def test_editable_install_has_them_too():
    mim = ROOT / 'sdd_mm' / '.mim'
    if not mim.exists():
        pytest.skip('sdd_mm is not installed from this checkout')
    assert (mim / 'configs' / 'sdd').samefile(ROOT / 'configs' / 'sdd')
    assert (mim / 'tools' / 'train.py').samefile(ROOT / 'tools' / 'train.py')


STOCK = {'mmengine', 'mmpretrain', 'mmcv-lite'}


@pytest.mark.parametrize('installed, wanted', [
    ([], STOCK),
    (['mmcv-lite'], STOCK),
    (['mmcv'], {'mmengine', 'mmpretrain'}),
    (['onedl-mmcv'], {'mmengine', 'mmpretrain'}),
    (['onedl_mmengine', 'onedl-mmpretrain'], {'onedl-mmcv'}),
    (['onedl-mmengine', 'mmcv-lite'], {'mmpretrain'}),
    (['onedl-mmengine', 'onedl-mmpretrain', 'onedl-mmcv'], set()),
])
def test_what_an_environment_has_by_another_name_is_left_alone(
        tmp_path, installed, wanted):
    """What pip reads of us, in an environment with these packages."""
    env = tmp_path / 'env'
    run(sys.executable, '-m', 'venv', '--without-pip', env)
    site = next(env.glob('lib/python*/site-packages'))
    for name in installed:
        info = site / f'{name}-2.1.0.dist-info'
        info.mkdir()
        (info / 'METADATA'
         ).write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.1.0\n')
    run(env / 'bin' / 'python',
        'setup.py',
        '-q',
        'egg_info',
        '--egg-base',
        tmp_path,
        PYTHONPATH=sysconfig.get_path('purelib'))
    text = (tmp_path / 'sdd_mm.egg-info' / 'requires.txt').read_text()
    names = {Requirement(line).name for line in text.split('\n\n')[0].split()}
    assert {'torch', 'mmrazor'} <= names
    assert {
        name
        for name in names if name in STOCK or name.startswith('onedl')
    } == wanted


def dependencies():
    """The installed packages that this project needs, with their needs."""
    waiting = [
        same(Requirement(line).name)
        for name in ('runtime', 'mmcv-lite', 'demo', 'tests')
        for line in (ROOT / 'requirements' /
                     f'{name}.txt').read_text().splitlines()
        if line and not line.startswith('#')
    ]
    seen = set()
    while waiting:
        name = waiting.pop()
        try:
            found = distribution(name).requires or ()
        except PackageNotFoundError:
            continue  # of another platform or version
        if name in seen:
            continue
        seen.add(name)
        for requirement in map(Requirement, found):
            if requirement.marker is None or requirement.marker.evaluate(
                    dict(extra='')):
                waiting.append(same(requirement.name))
    assert len(seen) > 30
    return seen


# other versions bring other packages with them
pinned_versions = pytest.mark.skipif(
    f'torch=={torch.__version__.split("+")[0]};'
    not in (ROOT / 'requirements' / 'constraints.txt').read_text(),
    reason='needs the versions of requirements/constraints.txt')


@pinned_versions
def test_the_licence_of_every_dependency_is_listed():
    page = ROOT / 'docs' / 'en' / 'dependencies.md'
    listed = {
        same(line.split('|')[1])
        for line in page.read_text().splitlines() if line.startswith('| ')
    }
    assert not dependencies() - listed


@pinned_versions
def test_every_dependency_is_pinned():
    lines = (ROOT / 'requirements' / 'constraints.txt').read_text()
    pinned = [
        Requirement(line) for line in lines.splitlines()
        if line and not line.startswith('#')
    ]
    assert all(str(pin.specifier).startswith('==') for pin in pinned)
    here = {
        same(pin.name)
        for pin in pinned if pin.marker is None or pin.marker.evaluate()
    }
    assert not dependencies() - here


def same(name):
    """A package's name, as all spell it."""
    return name.strip().lower().replace('_', '-')
