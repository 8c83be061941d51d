# Copyright (c) sdd_mm contributors. All rights reserved.
"""Run an ablation of the paper. See docs/en/benchmark.md.

Every row is trained by tools/train.py with every seed. What is done is not
trained again; kill it at any time, the same command goes on.
"""
import argparse
from pathlib import Path
from typing import Dict, Optional

from mmengine.config import Config, DictAction
from runs import Run, as_command, check_teacher, digest
from suite import Row, train_all, write

from sdd_mm.engine.errors import PreflightError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# the pair's SD-KD config and the config that trains its teacher
PAIRS = {
    'demo': ('demo/sd-kd.py', 'demo/teacher.py'),
    'res32x4_res8x4_cifar100':
    ('sdd/sd-kd_res32x4_res8x4_cifar100.py', 'vanilla/res32x4_cifar100.py'),
    'res32x4_shuv1_cifar100':
    ('sdd/sd-kd_res32x4_shuv1_cifar100.py', 'vanilla/res32x4_cifar100.py'),
}
LOSSES = 'model.distiller.distill_losses'
# keys that rows, seeds and resumption need for themselves
RESERVED = {
    'model.distiller': 'the rows of the table set it',
    'model.teacher_ckpt': 'use --teacher-ckpt',
    'randomness.seed': 'use --seeds',
    'work_dir': 'use --work-dir',
    'load_from': 'runs resume by themselves',
    'resume': 'runs resume by themselves',
    'default_hooks.checkpoint': 'resuming needs it as it is',
}


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
    """Which cells count; the sum is over N x B in every row."""
    cells = sum(m * m for m in loss['scales'])
    consistent = sdd(loss, complementary_weight=0.0)
    # the global cell is consistent with itself
    complementary = sdd(loss, consistent_weight=0.0)
    return {
        'none (KD)':
        kd(loss),
        'consistent only, with the global cell':
        consistent,
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
        'M = {1, 2}': sdd(loss, scales=(1, 2)),
        'M = {1, 4}': sdd(loss, scales=(1, 4)),
        'M = {1, 2, 4}': sdd(loss, scales=(1, 2, 4)),
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


TABLES = dict(table6=table6, table7=table7, table8=table8)
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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run an ablation of the paper. What is done is not '
        'trained again: kill it at any time, the same command goes on')
    parser.add_argument('table', choices=TABLES)
    parser.add_argument('--pair', choices=PAIRS, required=True)
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='seeds of every row')
    parser.add_argument(
        '--teacher-ckpt',
        help='path or URL of the teacher. Defaults to what the config says; '
        'the demo trains its own')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/ablations'))
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='settings to override in every row, as key=value, such as '
        'train_cfg.max_epochs=2')
    return parser.parse_args()


def check_options(options: dict) -> None:
    """Refuse options that would undo what makes the rows."""
    for option in options:
        for key, reason in RESERVED.items():
            if f'{option}.'.startswith(f'{key}.') or f'{key}.'.startswith(
                    f'{option}.'):
                raise PreflightError(f'--cfg-options {option}: {reason}')


def find_teacher(pair: str, given: Optional[str], work_dir: Path) -> str:
    """The checkpoint that all rows are taught by."""
    config, teacher = (CONFIGS / name for name in PAIRS[pair])
    if given is None and pair == 'demo':
        run = Run(teacher, work_dir, {})
        run.train('teacher')
        return str(run.checkpoint(run.max_epochs))
    checkpoint = given or Config.fromfile(config).model.teacher_ckpt
    check_teacher(
        checkpoint, f'Train it by `python tools/train.py {teacher}` '
        'or name another by --teacher-ckpt')
    return checkpoint


def make_rows(table: str, pair: str) -> Dict[str, dict]:
    """The distillation losses of every row, by its title."""
    cfg = Config.fromfile(CONFIGS / PAIRS[pair][0])
    losses = cfg.model.distiller.distill_losses
    return TABLES[table](losses.loss_sdd.to_dict())


def make_runs(rows: Dict[str, dict], pair: str, seeds: list, work_dir: Path,
              options: dict) -> Dict[str, list]:
    """The runs of every row, one for each seed."""
    return {
        title:
        Row([
            Run(CONFIGS / PAIRS[pair][0], work_dir, {
                **options, LOSSES: dict(losses, _delete_=True)
            }, seed) for seed in seeds
        ])
        for title, losses in rows.items()
    }


def main() -> None:
    args = parse_args()
    check_options(args.cfg_options)
    work_dir = args.work_dir / args.pair
    teacher = find_teacher(args.pair, args.teacher_ckpt, work_dir)
    options = {**args.cfg_options, 'model.teacher_ckpt': teacher}
    rows = make_runs(
        make_rows(args.table, args.pair), args.pair,
        list(dict.fromkeys(args.seeds)), work_dir, options)
    notes = [
        f'{args.table} of the paper on {args.pair}. Options of every row: '
        f'{options}.', *NOTES.get(args.table, [])
    ]
    published = PUBLISHED.get((args.table, args.pair))
    if published is not None:
        for row, paper in zip(rows.values(), published, strict=True):
            row.paper = paper
    # a trial with other options leaves the table alone
    trial = f'-{digest(args.cfg_options)}' if args.cfg_options else ''
    path = work_dir / f'{args.table}{trial}.json'
    for _ in train_all(rows):
        text = write(path, rows, notes)
    print(f'\n{text}\nWritten to {path} and {path.with_suffix(".md")}')


if __name__ == '__main__':
    as_command(main)
