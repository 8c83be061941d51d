# Copyright (c) sdd_mm contributors. All rights reserved.
"""The installation: versions, repairs, classes, machine."""
import contextlib
import inspect
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import List

import torch
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmrazor.registry import MODELS, TASK_UTILS

from ..compat import repairs
from ..memory import available_memory, size_text
from ..version import __version__
from . import BAD, FACT, GOOD, Finding

PACKAGES = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmcv-lite',
            'mmpretrain', 'mmrazor')
# maintained forks with the same files, named onedl-mmengine and so on
FORKED = ('mmengine', 'mmcv', 'mmpretrain')
CLASSES = ((PRETRAIN_MODELS, 'ImageClassifier'), (MODELS,
                                                  'SingleTeacherDistill'),
           (MODELS, 'FrozenTeacherDistill'), (MODELS, 'SDDDistiller'),
           (MODELS, 'ScaleDecoupledLoss'), (TASK_UTILS, 'FeatureHeadRecorder'))


def installation() -> List[Finding]:
    """Versions, repairs, where classes come from, and the machine."""
    found, findings = [f'Python {platform.python_version()}'], []
    for name in PACKAGES:
        versions = _versions(name)
        found += versions
        if len(versions) > 1:
            findings.append(
                Finding(
                    BAD, name, f'{" and ".join(versions)} have the same '
                    'files, so one has overwritten the other: uninstall both, '
                    'and install one'))
    fixes = ', '.join(fix.__name__ for fix in repairs())
    findings[:0] = [
        Finding(FACT, 'versions', f'sdd_mm {__version__}, {", ".join(found)}'),
        Finding(GOOD, 'repaired', f'{fixes} (sdd_mm/compat.py)')
    ]
    for registry, name in CLASSES:
        kind = registry.get(name)
        if kind is None:
            findings.append(
                Finding(BAD, name, f'is not in scope {registry.scope}'))
        else:
            findings.append(
                Finding(GOOD, name, f'{registry.scope}: {_file(kind)}'))
    return [*findings, _machine()]


def _versions(name: str) -> List[str]:
    """A package and its maintained fork, as far as they are installed."""
    found = []
    for title in (f'onedl-{name}', name) if name in FORKED else (name, ):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f'{title} {version(title)}')
    return found


def _file(kind: type) -> str:
    """The last parts of the path of a class."""
    path = Path(inspect.getfile(kind))
    return '/'.join(path.parts[-4:])


def _machine() -> Finding:
    memory = f'{size_text(available_memory())} of memory are free'
    if not torch.cuda.is_available():
        return Finding(
            FACT, 'device', f'no GPU: {torch.get_num_threads()} thread(s) of '
            f'{platform.machine()}, float32; {memory}')
    names = [
        f'{torch.cuda.get_device_name(index)} '
        f'({size_text(torch.cuda.mem_get_info(index)[0])} free)'
        for index in range(torch.cuda.device_count())
    ]
    precision = 'float32, float16' + (', bfloat16' if
                                      torch.cuda.is_bf16_supported() else '')
    return Finding(FACT, 'device',
                   f'{", ".join(names)}, {precision}; {memory}')
