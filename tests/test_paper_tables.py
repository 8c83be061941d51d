# Copyright (c) sdd_mm contributors. All rights reserved.
"""The tables of the paper, each by one command."""
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.differences import differences, draw  # noqa: E402
from benchmarks.pages import suite_page  # noqa: E402
from benchmarks.suite import take_part  # noqa: E402
from benchmarks.suite import RunError, load, run, select  # noqa: E402
from benchmarks.tables import SUITES, compare  # noqa: E402


def miniature(name):
    """Generated images, eight a step, for one epoch."""
    classes = dict(table3=1000, table4=200).get(name, 100)
    size = (32, 32) if classes == 100 else (64, 64)
    options = {
        'auto_scale_lr.enable': True,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1
    }
    for part in ('train', 'val'):
        loader = f'{part}_dataloader'
        options.update({
            f'{loader}.dataset':
            dict(
                _delete_=True,
                type='GeneratedImages',
                num_images=8,
                num_classes=classes,
                image_size=size,
                pipeline=[
                    dict(
                        type='PackInputs',
                        meta_keys=('sample_idx', 'ori_shape'))
                ]),
            f'{loader}.batch_size':
            8,
            f'{loader}.num_workers':
            0,
            f'{loader}.persistent_workers':
            False
        })
    return options


def test_every_cell_of_the_tables_has_a_row():
    """28 + 48 + 20 rows of feature methods, and six of logits for a pair."""
    counts = {name: len(load(name).rows) for name in SUITES}
    assert counts == dict(
        table1=55,
        table2=88,
        table3=7,
        table4=53,
        timing=5,
        table6=12,
        table7=8,
        table8=10)
    rows = load('table1').rows
    heads = {title: row.head for title, row in rows.items() if 'head' in row}
    assert len(heads) == 8 and len(set(heads.values())) == 3
    for head in heads.values():
        assert (ROOT / head).is_file()


def test_parts_are_all_rows_once():
    everything = list(load('table7').rows)
    parts = []
    for number in range(3):
        suite = load('table7')
        take_part(suite, f'{number}/3')
        parts += suite.rows
    assert sorted(parts) == sorted(everything)
    # 9 jobs for 8 rows: the last has none
    for wrong in ('3/3', '8/9', '1', 'a/b', '-1/3'):
        with pytest.raises(RunError, match=f'--part {wrong} must be I/N'):
            take_part(load('table7'), wrong)


def test_a_page_has_the_published_numbers():
    row = dict(
        title='X',
        paper=70.1,
        original=71.25,
        log=[69.3],
        diverged=[],
        runs=[dict(seed=0, last=1., mean_of_last_10=1., best=2.)])
    page = suite_page(dict(rows=[row], notes=[]))
    head, _, line = page.splitlines()[:3]
    assert head.startswith("|  | paper | original | authors' log | last")
    assert line.startswith('| X | 70.10 | 71.25 | 69.30 | 1.00 |')


@pytest.mark.long
@pytest.mark.parametrize('name, only', [
    *((name, None) for name in SUITES),
    ('table1', ['sskd_wrn40-2_vgg8_cifar100', 'sd-sskd_wrn40-2_vgg8_*']),
    ('table2', ['fitnet_res32x4_shuv1_*']),
])
def test_rows_run_on_a_miniature(tmp_path, monkeypatch, name, only):
    """The first row, and rows that need a teacher and a rotation head."""
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    suite = load(name)
    select(suite, only or [next(iter(suite.rows))])
    text = run(suite, tmp_path / f'{name}.json', tmp_path, [0],
               miniature(name))
    found, = tmp_path.glob('*.json')
    rows = json.loads(found.read_text())['rows']
    assert len(rows) == len(suite.rows)
    assert all(len(row['runs']) == 1 for row in rows)
    if only and 'sskd' in only[0]:
        assert 'Rotation head: configs/baselines/sskd-head_wrn40-2' in text


def test_a_pair_without_a_config_has_no_row():
    found = compare('cifar100', ('res50_shuv1', ), ('reviewkd', 'kd'), '')
    assert list(found['rows']) == [
        'ShuffleNetV1 alone', 'ResNet-50 to ShuffleNetV1: KD'
    ]


def test_differences_are_those_of_equal_seeds(tmp_path):

    def row(title, accuracies):
        return dict(
            title=title,
            log=[],
            diverged=[],
            runs=[
                dict(seed=seed, last=last, mean_of_last_10=last, best=last)
                for seed, last in accuracies.items()
            ])

    rows = [
        row('as released', {
            0: 70.,
            1: 60.,
            2: 80.
        }),
        row('other', {
            2: 83.,
            0: 71.,
            1: 62.,
            5: 0.
        }),
        row('once', {0: 90.})
    ]
    found = differences(rows, 'as released')
    # Student's 97.5 % quantile of two degrees of freedom is 4.3027
    assert list(found) == ['other'] and found['other'].mean == 2
    assert found['other'].high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-4)
    assert str(found['other']) == '+2.0 (-0.5 to +4.5)'
    page = suite_page(dict(rows=rows, notes=[], reference='as released'))
    assert '| +2.0 (-0.5 to +4.5) |' in page
    assert 'Difference: points of the last epoch against "as rel' in page
    assert 'ifference' not in suite_page(dict(rows=rows, notes=[]))
    draw(rows, 'as released', tmp_path / 'x.png')
    assert (tmp_path / 'x.png').stat().st_size > 5000
