# Copyright (c) sdd_mm contributors. All rights reserved.
"""The tables of the paper as suites: every pair and every method."""
from typing import Callable, Dict, List

from .ablation import make_suite
from .runs import ROOT

LOGITS = ('kd', 'sd-kd', 'dkd', 'sd-dkd', 'nkd-released', 'sd-nkd-released')
SSKD = ('sskd', 'sd-sskd')
NETWORKS = dict(
    res8x4='ResNet8x4',
    res32x4='ResNet32x4',
    res34='ResNet-34',
    res18='ResNet-18',
    res50='ResNet-50',
    vgg8='VGG8',
    vgg13='VGG13',
    mbv1='MobileNetV1',
    mbv2='MobileNetV2',
    shuv1='ShuffleNetV1',
    shuv2='ShuffleNetV2')
NETWORKS['wrn40-2'] = 'WRN-40-2'
NOTE = ('NKD and SD-NKD are as released: target kept, gamma and tau of the '
        "pair's DKD.")


def compare(data: str, pairs: tuple, methods: tuple, note: str) -> dict:
    """Methods on pairs; what no config is for, the paper has no number for."""
    rows: Dict[str, dict] = {}
    for pair in pairs:
        teacher, student = pair.split('_')
        alone = f'configs/vanilla/{student}_{data}.py'
        rows.setdefault(f'{NETWORKS[student]} alone', dict(config=alone))
        for method in methods:
            config = _config(f'{method}_{pair}_{data}')
            if config is None:
                continue
            title = f'{NETWORKS[teacher]} to {NETWORKS[student]}'
            row = dict(config=config, panel=title)
            if data != 'imagenet':  # whose teachers are OpenMMLab's
                row['teacher'] = f'configs/vanilla/{teacher}_{data}.py'
            if method in SSKD:
                row['head'] = (
                    f'configs/baselines/sskd-head_{teacher}_{data}.py')
            name = method.removesuffix('-released').upper()
            rows[f'{title}: {name}'] = row
    return dict(
        rows=rows,
        seeds=[0, 1, 2] if data != 'imagenet' else [0],
        notes=[note, NOTE])


def _config(name: str):
    found = [
        path for path in (f'configs/{folder}/{name}.py'
                          for folder in ('sdd', 'baselines'))
        if (ROOT / path).is_file()
    ]
    return found[0] if found else None


def _ablate(table: str, pairs: tuple) -> dict:
    """A table of ablations on several pairs."""
    rows: Dict[str, dict] = {}
    notes: List[str] = []
    for pair in pairs:
        suite = make_suite(table, f'{pair}_cifar100')
        teacher, student = pair.split('_')
        title = f'{NETWORKS[teacher]} to {NETWORKS[student]}'
        for name, row in suite['rows'].items():
            rows[f'{title}: {name}'] = dict(
                row,
                teacher=f'configs/vanilla/{teacher}_cifar100.py',
                panel=title)
        notes += suite['notes']
    return dict(rows=rows, seeds=[0, 1, 2], notes=list(dict.fromkeys(notes)))


SUITES: Dict[str, Callable[[], dict]] = dict(
    table1=lambda: compare(
        'cifar100',
        ('res32x4_mbv2', 'wrn40-2_vgg8', 'wrn40-2_mbv2', 'res50_shuv1'),
        ('fitnet', 'sp', 'crd', 'semckd', 'mgd', *LOGITS, *SSKD),
        'Table 1 of the paper: CIFAR-100, other networks with other depths.'),
    table2=lambda: compare(
        'cifar100', ('res32x4_shuv1', 'wrn40-2_shuv1', 'res50_mbv2',
                     'vgg13_mbv2', 'res32x4_shuv2', 'res50_vgg8'),
        ('fitnet', 'rkd', 'sp', 'pkt', 'crd', 'semckd', 'reviewkd', 'mgd',
         *LOGITS),
        'Table 2 of the paper: CIFAR-100, other networks of the same depth.'),
    table3=lambda: compare(
        'imagenet', ('res50_mbv1', ), LOGITS,
        'Table 3 of the paper: ImageNet, 512 images per step (--gpus 8).'),
    table4=lambda: compare('cub200',
                           ('res32x4_mbv2', 'res32x4_shuv1', 'vgg13_mbv2',
                            'vgg13_vgg8', 'res50_shuv1'),
                           ('sp', 'crd', 'semckd', 'reviewkd', 'mgd', *LOGITS
                            ), 'Table 4 of the paper: CUB-200-2011.'),
    timing=lambda: compare(
        'cifar100', ('res32x4_res8x4', ), ('kd', 'sd-kd', 'crd', 'reviewkd'),
        'Tables 5 and 9 of the paper: the accuracies. The times are the row '
        '`methods` of the speed benchmarks.'),
    table6=lambda: _ablate('table6', ('res32x4_res8x4', 'res32x4_shuv1')),
    table7=lambda: _ablate('table7', ('res32x4_shuv1', 'res32x4_res8x4')),
    table8=lambda: _ablate('table8', ('res32x4_shuv1', )),
)
