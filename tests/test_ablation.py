# Copyright (c) sdd_mm contributors. All rights reserved.
"""The rows of the paper's ablations, and runs that are killed."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmrazor.registry import MODELS

from sdd_mm import FeatureHead
from sdd_mm.engine.errors import PreflightError
from sdd_mm.functional import cell_weights, kd_loss, local_logits
from sdd_mm.runtime.errors import WorkDirError
from sdd_mm.runtime.work_dir import lock_work_dir

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import ablation  # noqa: E402
from benchmarks.results import train_all, write  # noqa: E402
from benchmarks.runs import Run, RunError  # noqa: E402
from benchmarks.suite import check_options, make_rows  # noqa: E402

SMALL = {
    'train_dataloader.dataset.num_scenes': 128,
    'val_dataloader.dataset.num_scenes': 100,
    'train_cfg.max_epochs': 3
}


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A checkpoint that the demo's teacher takes."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'teacher.py')
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(MODELS.build(cfg.model).state_dict(), path)
    return path


def rows_of(table, pair, teacher, work_dir, seeds=(0, ), **options):
    suite = ablation.make_suite(table, pair)
    return make_rows(suite, seeds, work_dir, options, lambda _: str(teacher))


@pytest.mark.parametrize('scales', [(1, 2), (1, 2, 4)])
@pytest.mark.parametrize('size', [4, 8])
def test_rows_of_table_6_are_masked_sums(scales, size):
    torch.manual_seed(0)
    batch, classes = 16, 3
    student, teacher = (
        FeatureHead(
            torch.randn(batch, 5, side, side, dtype=torch.float64),
            torch.randn(classes, 5, dtype=torch.float64),
            torch.randn(classes, dtype=torch.float64)) for side in (size, 8))
    target = torch.randint(classes, (batch, ))
    loss = dict(
        type='ScaleDecoupledLoss',
        criterion=dict(type='KDCriterion', tau=4.0),
        scales=scales,
        loss_weight=0.9)

    cells = [
        local_logits(record.feature, record.weight, record.bias, scales)
        for record in (student, teacher)
    ]
    complementary = cell_weights(cells[1], target) == 2
    consistent = ~complementary
    is_global = torch.zeros_like(complementary)
    is_global[0] = True
    assert complementary.any() and (consistent & ~is_global).any()
    right = cells[1][0].argmax(-1) == target
    assert right.any() and not right.all()
    weights = {
        'consistent only, with the global cell':
        consistent,
        'consistent only, without the global cell':
        consistent & ~is_global,
        'complementary only, with the global cell':
        2 * complementary + is_global.int(),
        'complementary only, without the global cell':
        2 * complementary,
        'both (SD-KD)':
        1 + complementary.int(),
    }
    expected = {
        title: 0.9 * (weight * kd_loss(*cells)).sum() / weight.numel()
        for title, weight in weights.items()
    }
    true = [
        record.feature.mean((2, 3)) @ record.weight.T + record.bias
        for record in (student, teacher)
    ]
    expected['none (KD)'] = 0.9 * kd_loss(*true).mean()

    rows = ablation.table6(loss)
    assert set(rows) == set(expected)
    for title, losses in rows.items():
        total = sum(
            MODELS.build(config)(student, teacher, target)
            for config in losses.values())
        torch.testing.assert_close(total, expected[title], msg=title)


def numbers(run):
    """What the distillation losses of a run were built with."""
    found = []
    for loss in MODELS.build(run.cfg.model.distiller).distill_losses.values():
        assert type(loss.criterion).__name__ == 'KDCriterion'
        assert loss.criterion.tau == 4
        cells = (loss.scales, loss.consistent_weight,
                 loss.complementary_weight) if hasattr(loss, 'scales') else ()
        if cells:
            assert (loss.pooling, loss.consistency,
                    loss.reduction) == ('hierarchical', 'label', 'mean')
        found.append((*cells, pytest.approx(loss.loss_weight)))
    return found


@pytest.mark.parametrize('pair', ablation.PAIRS)
def test_numbers_of_every_row(pair, teacher, tmp_path):
    scales, n = ((1, 2), 5) if 'res8x4' in pair else ((1, 2, 4), 21)

    def found(table):
        rows = rows_of(table, pair, teacher, tmp_path)
        published = [row.paper for row in rows.values()]
        assert None not in published or not any(published)
        return {title: numbers(row.runs[0]) for title, row in rows.items()}

    assert list(found('table6').values()) == [
        [(0.9, )],
        [(scales, 1, 0, 0.9)],
        [(scales[1:], 1, 0, 0.9 * (n - 1) / n)],
        [(scales, 0, 2, 0.9), (0.9 / n, )],
        [(scales, 0, 2, 0.9)],
        [(scales, 1, 2, 0.9)],
    ]
    assert found('table7') == {
        'M = {1}': [(0.9, )],
        'M = {1, 2}': [((1, 2), 1, 2, 0.9)],
        'M = {1, 4}': [((1, 4), 1, 2, 0.9)],
        'M = {1, 2, 4}': [((1, 2, 4), 1, 2, 0.9)],
    }
    assert found('table8') == {
        **{
            f'complementary {gamma}, consistent 1': [(scales, 1, gamma, 0.9)]
            for gamma in (1, 2, 4, 6, 8)
        },
        **{
            f'consistent {beta}, complementary 2': [(scales, beta, 2, 0.9)]
            for beta in (0.2, 0.5, 0.8, 1, 1.5)
        },
    }


@pytest.mark.parametrize('pair', ablation.PAIRS)
def test_rows_without_a_change_are_the_configs(pair, teacher, tmp_path):
    rows = rows_of('table6', pair, teacher, tmp_path)
    path = ROOT / ablation.PAIRS[pair][0]
    for title, config in (('none (KD)',
                           path.with_name(path.name.replace('sd-kd', 'kd'))),
                          ('both (SD-KD)', path)):
        cfg, run = Config.fromfile(config), rows[title].runs[0]
        cfg.merge_from_dict({
            'model.teacher_ckpt': str(teacher),
            'randomness.seed': 0
        })
        for key in ('optim_wrapper', 'param_scheduler', 'custom_hooks',
                    'train_cfg', 'train_dataloader', 'randomness'):
            assert run.cfg[key] == cfg[key], key
        losses = [
            str(MODELS.build(config.model.pop('distiller')))
            for config in (run.cfg, cfg)
        ]
        assert losses[0] == losses[1]
        assert run.cfg.model == cfg.model


def test_equal_rows_are_one_run_and_others_are_not(teacher, tmp_path):

    def folders(table, teacher=teacher, **options):
        rows = rows_of(table, 'demo', teacher, tmp_path, **options)
        return {
            title: [run.directory for run in row.runs]
            for title, row in rows.items()
        }

    table6, table7, table8 = map(folders, ablation.TABLES)
    assert table6['none (KD)'] == table7['M = {1}']
    assert (table6['both (SD-KD)'] == table7['M = {1, 2, 4}'] ==
            table8['complementary 2, consistent 1'] ==
            table8['consistent 1, complementary 2'])
    together = {**table6, **table7, **table8}
    assert len({str(value) for value in together.values()}) == 20 - 4
    seeds = folders('table7', seeds=(0, 1))
    assert {k: v[:1] for k, v in seeds.items()} == table7
    other = teacher.with_name('other.pth')
    other.write_bytes(b'other weights')
    same = teacher.with_name('same.pth')
    same.write_bytes(teacher.read_bytes())
    assert folders('table7', teacher=same) == table7
    everything = [
        *table7.values(), *([v[1]] for v in seeds.values()),
        *folders('table7', teacher=other).values(),
        *folders('table7', **{
            'train_cfg.max_epochs': 4
        }).values()
    ]
    assert len(set(map(str, everything))) == 16


def test_options_that_would_undo_the_rows_are_refused():
    for option in ('model.distiller.distill_losses.loss_sdd.loss_weight',
                   'model', 'model.teacher_ckpt', 'randomness.seed', 'resume'):
        with pytest.raises(PreflightError, match=option):
            check_options({option: 1}, ablation.OPTIONS)
    check_options(SMALL, ablation.OPTIONS)


def test_an_absent_teacher_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    suite = ablation.make_suite('table7', 'res32x4_res8x4_cifar100')
    with pytest.raises(RunError) as error:
        make_rows(suite, [0], tmp_path, {}, lambda _: None)
    for part in ('work_dirs/res32x4_cifar100/epoch_240.pth',
                 'configs/vanilla/res32x4_cifar100.py', '--teacher-ckpt'):
        assert part in str(error.value)


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory, teacher):
    """Two rows, of which the first was killed after an epoch."""
    work_dir = tmp_path_factory.mktemp('ablations')
    command = [
        sys.executable, ROOT / 'tools' / 'benchmark' / 'ablation.py', 'table7',
        '--pair', 'demo', '--teacher-ckpt', teacher, '--work-dir', work_dir,
        '--cfg-options', *(f'{key}={value}' for key, value in SMALL.items())
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)))
    output = ''
    while 'epoch  2,' not in output:
        output += process.stdout.read(1) or pytest.fail(output)
    os.killpg(process.pid, signal.SIGSTOP)  # lest it come to its end
    process.kill()
    process.wait()
    rows = rows_of('table7', 'demo', teacher, work_dir / 'demo', **SMALL)
    first = rows['M = {1}'].runs[0]
    # the training itself is still there, and nobody trains beside it
    with pytest.raises(WorkDirError, match='belongs to another run'):
        first.train()
    os.killpg(process.pid, signal.SIGKILL)
    while True:  # the system takes a moment to end it
        try:
            lock_work_dir(str(first.directory)).close()
            break
        except WorkDirError:
            time.sleep(0.05)
    assert 1 <= first.epochs_done() < 3
    return {title: rows[title] for title in ('M = {1}', 'M = {1, 2}')}


@pytest.mark.long
def test_a_killed_table_goes_on_and_a_done_one_rests(interrupted, teacher,
                                                     tmp_path, capsys):
    rows, first = interrupted, interrupted['M = {1}'].runs[0]
    for row, paper in zip(rows.values(), (74.07, 75.10)):
        row.paper = paper
    done = first.epochs_done()
    path = tmp_path / 'table.json'
    assert '| M = {1} | 74.07 |  |  |  |' in write(path, rows, [])
    assert len(list(train_all(rows))) == 2
    assert f'{done} of 3 epochs are done' in capsys.readouterr().out
    logs = sorted(first.directory.glob('*/*.log'))
    assert f'resumed epoch: {done}' in logs[-1].read_text()
    assert all(run.done() for row in rows.values() for run in row.runs)

    files = {
        file: file.stat().st_mtime_ns
        for run in (first, *rows['M = {1, 2}'].runs)
        for file in run.directory.rglob('*') if file.name != '.lock'
    }
    list(train_all(rows))
    assert {file: file.stat().st_mtime_ns for file in files} == files

    text = write(path, rows, ['a note'])
    results = json.loads(path.read_text())['rows']
    for result in results:
        (run, ) = result['runs']
        assert [*run['accuracy']] == list('123')
        assert run['last'] == run['accuracy']['3']
        assert run['best'] == max(run['accuracy'].values())
        assert (f'| {result["title"]} | {result["paper"]:.2f} | '
                f'{run["last"]:.2f} | {run["mean_of_last_10"]:.2f} | '
                f'{run["best"]:.2f} | 0 |') in text
        assert run['mean_of_last_10'] == pytest.approx(
            sum(run['accuracy'].values()) / 3)
        assert run['seconds'] > 0 and run['facts']['torch']
    assert path.with_suffix('.md').read_text() == text

    # killed while it writes what it measured
    (run, ) = rows['M = {1, 2}'].runs
    (scalars, ) = run.directory.glob('*/vis_data/scalars.json')
    scalars.write_text(scalars.read_text()[:-3])
    assert not run.done() and run.epochs_done() == 2
    # and a checkpoint that was removed
    run.checkpoint(2).unlink()
    assert run.epochs_done() == 0


@pytest.mark.long
def test_a_killed_run_ends_as_if_it_had_never_been(interrupted, teacher,
                                                   tmp_path):
    (first, ) = interrupted['M = {1}'].runs
    first.train()
    rows = rows_of('table7', 'demo', teacher, tmp_path, **SMALL)
    (whole, ) = rows['M = {1}'].runs
    whole.train()
    assert whole.accuracy() == first.accuracy()
    weights, again = (
        torch.load(run.checkpoint(3))['state_dict'] for run in (whole, first))
    torch.testing.assert_close(weights, again, rtol=0, atol=0)


def test_a_last_epoch_that_is_not_validated(tmp_path):
    for options in ({
            'train_cfg.max_epochs': 0
    }, {
            'train_cfg.max_epochs': 2,
            'train_cfg.val_begin': 5
    }):
        with pytest.raises(RunError, match='is not validated'):
            Run(ROOT / 'configs' / 'demo' / 'teacher.py', tmp_path, options)
