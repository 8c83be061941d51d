# Copyright (c) sdd_mm contributors. All rights reserved.
import os
import re
import shutil
import site
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# what OpenMMLab's tools look for inside a package, under .mim/
MIM = ('configs', 'tools', 'model-index.yml')


def requirements(name: str) -> list:
    """Lines of requirements/NAME.txt."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def installed() -> set:
    """Names of the packages in this environment.

    pip builds in isolation, so they are looked up by their folders.
    """
    paths = {sysconfig.get_path(name) for name in ('purelib', 'platlib')}
    paths.add(site.getusersitepackages())
    return {
        dist.metadata['Name'].lower().replace('_', '-')
        for dist in distributions(path=list(paths)) if dist.metadata['Name']
    }


def runtime() -> list:
    """What sdd_mm needs, less what the environment has by another name.

    ``onedl-mmengine``, ``onedl-mmpretrain`` and ``onedl-mmcv`` are maintained
    forks, and ``mmcv-lite`` a light mmcv, with the same files as the packages
    they stand for: installing one would overwrite the other.
    """
    found = installed()
    lines = [
        line for line in requirements('runtime')
        if f'onedl-{re.match("[a-z0-9-]*", line)[0]}' not in found
    ]
    if found & {'mmcv', 'onedl-mmcv'}:
        return lines
    if 'onedl-mmengine' in found:  # mmcv-lite would bring the stock mmengine
        return lines + ['onedl-mmcv'] * ('mmcv-lite' not in found)
    return lines + requirements('mmcv-lite')


class BuildWithMim(build_py):
    """Puts configs, tools and the model index under sdd_mm/.mim/."""

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        base = ROOT if editable else Path(self.build_lib)
        mim = base / 'sdd_mm' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM:
            source, target = ROOT / name, mim / name
            if editable:
                os.symlink(
                    os.path.relpath(source, mim), target, source.is_dir())
            elif source.is_dir():
                shutil.copytree(
                    source,
                    target,
                    ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target)


version = {}
exec((ROOT / 'sdd_mm' / 'version.py').read_text(), version)
setup(
    name='sdd_mm',
    version=version['__version__'],
    description='Scale Decoupled Distillation for MMRazor and MMPretrain',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['sdd_mm', 'sdd_mm.*']),
    python_requires='>=3.10',
    install_requires=runtime(),
    extras_require={
        'demo': requirements('demo'),
        'tests': requirements('tests'),
        'timm': requirements('timm'),
        'transformers': requirements('transformers'),
        'onnx': requirements('onnx'),
        'docs': requirements('docs')
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False)
