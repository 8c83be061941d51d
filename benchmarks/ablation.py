# Copyright (c) sdd_mm contributors. All rights reserved.
"""The ablations of the paper as suites."""
from typing import Callable, Dict

from .suite import RESERVED, ROOT

from mmengine.config import Config  # isort: skip  (sdd_mm comes first)

# the pair's SD-KD config, and that of the teacher if the suite trains it
PAIRS = {
    'demo': ('configs/demo/sd-kd.py', 'configs/demo/teacher.py'),
    'res32x4_res8x4_cifar100':
    ('configs/sdd/sd-kd_res32x4_res8x4_cifar100.py', None),
    'res32x4_shuv1_cifar100':
    ('configs/sdd/sd-kd_res32x4_shuv1_cifar100.py', None),
}
LOSSES = 'model.distiller.distill_losses'
OPTIONS = {**RESERVED, 'model.distiller': 'the rows of the table set it'}


def sdd(loss: dict, **changes) -> dict:
    """SD-KD with some of its numbers changed."""
    # all are spelled out, so that equal rows of two tables are one run
    defaults = dict(consistent_weight=1.0, complementary_weight=2.0)
    return dict(loss_sdd={**defaults, **loss, **changes})


def kd(loss: dict, share: float = 1.0) -> dict:
    """The criterion on the true logits, with a share of the loss's weight."""
    return dict(
        loss_kd=dict(
            type='LogitLoss',
            criterion=loss['criterion'],
            loss_weight=share * loss['loss_weight']))


def table6(loss: dict) -> Dict[str, dict]:
    """Which cells count; the loss is divided by N x B in every row."""
    cells = sum(m * m for m in loss['scales'])
    # the global cell is consistent with itself
    complementary = sdd(loss, consistent_weight=0.0)
    return {
        'none (KD)':
        kd(loss),
        'consistent only, with the global cell':
        sdd(loss, complementary_weight=0.0),
        'consistent only, without the global cell':
        sdd(loss,
            complementary_weight=0.0,
            scales=tuple(m for m in loss['scales'] if m != 1),
            loss_weight=loss['loss_weight'] * (cells - 1) / cells),
        'complementary only, with the global cell':
        dict(complementary, **kd(loss, share=1 / cells)),
        'complementary only, without the global cell':
        complementary,
        'both (SD-KD)':
        sdd(loss),
    }


def table7(loss: dict) -> Dict[str, dict]:
    """The scale set M; M = {1} is KD on the true logits."""
    return {
        'M = {1}': kd(loss),
        **{
            f'M = {set(scales)}': sdd(loss, scales=scales)
            for scales in ((1, 2), (1, 4), (1, 2, 4))
        }
    }


def table8(loss: dict) -> Dict[str, dict]:
    """The paper's gamma, the complementary weight, and its beta."""
    return {
        **{
            f'complementary {gamma:g}, consistent 1':
            sdd(loss, complementary_weight=gamma)
            for gamma in (1.0, 2.0, 4.0, 6.0, 8.0)
        },
        **{
            f'consistent {beta:g}, complementary 2':
            sdd(loss, consistent_weight=beta)
            for beta in (0.2, 0.5, 0.8, 1.0, 1.5)
        },
    }


TABLES: Dict[str, Callable] = dict(table6=table6, table7=table7, table8=table8)
# the paper's top-1 (%), row by row
PUBLISHED = {
    ('table6', 'res32x4_res8x4_cifar100'):
    (73.33, 75.14, 75.14, 74.79, 74.79, 76.63),
    ('table6', 'res32x4_shuv1_cifar100'):
    (74.07, 75.88, 75.88, 75.10, 75.10, 76.30),
    ('table7', 'res32x4_res8x4_cifar100'): (73.33, 76.63, 76.13, 75.74),
    ('table7', 'res32x4_shuv1_cifar100'): (74.07, 75.10, 75.84, 76.30),
    ('table8', 'res32x4_shuv1_cifar100'):
    (76.22, 76.30, 75.99, 76.15, 75.78, 75.33, 76.22, 75.92, 76.30, 75.82),
}
NOTES = {
    'table6': [
        'The paper does not say whether the global cell counts: its '
        'number stands in both rows.'
    ]
}


def make_suite(table: str, pair: str, trial: bool = False) -> dict:
    """A table on a pair; no published number stands beside a trial."""
    config, teacher = PAIRS[pair]
    losses = Config.fromfile(ROOT / config).model.distiller.distill_losses
    rows = {
        title:
        dict(config=config, options={LOSSES: dict(found, _delete_=True)})
        for title, found in TABLES[table](losses.loss_sdd.to_dict()).items()
    }
    papers = () if trial else PUBLISHED.get((table, pair), ())
    for row, paper in zip(rows.values(), papers):
        row['paper'] = paper
    notes = [f'{table} of the paper on {pair}.', *NOTES.get(table, [])]
    return dict(rows=rows, teacher=teacher, notes=notes)
