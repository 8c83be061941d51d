# Copyright (c) sdd_mm contributors. All rights reserved.
"""The benchmarks measure what they say they measure."""
import json
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'benchmark')]
# isort: off
import speed as command  # noqa: E402
from benchmarks.markdown import END, START, PageError  # noqa: E402
from benchmarks.pages import update_speed  # noqa: E402
from benchmarks.speed import ROWS, bare, growth, measure  # noqa: E402
from benchmarks.speed import methods  # noqa: E402
from benchmarks.speed.by_hand import ByHand as by_hand_of  # noqa: E402
from benchmarks.speed import page, saved, shapes, sync, trainers  # noqa: E402
# isort: on

TINY = SimpleNamespace(tiny=True, data_root=None, device='cpu', steps=2)
SLOW = ('step', 'sync', 'cache', 'overhead', 'methods')


def test_cases_take_turns():
    order = []
    cases = {name: lambda name=name: order.append(name) for name in 'abc'}
    found = measure.interleave(cases, rounds=3, calls=2, warmup=1)
    assert ''.join(order) == 'abc' + 'aabbcc' + 'ccbbaa' + 'aabbcc'
    assert {
        name: len(times.wall)
        for name, times in found.items()
    } == dict(
        a=3, b=3, c=3)


def test_waiting_takes_no_processor_time():
    found = measure.interleave(dict(a=lambda: time.sleep(0.05)), rounds=1)
    assert found['a'].wall[0] > 0.05 > 0.02 > found['a'].processor[0]


def test_a_ratio_is_of_medians_and_its_spread_of_rounds():
    above = measure.Times([2., 9., 4.], [2., 3., 1.])
    found = measure.ratio(above, measure.Times([1., 3., 2.], [4., 4., 4.]))
    processor = None if torch.cuda.is_available() else 0.5
    assert found == dict(value=2.0, low=2.0, high=3.0, processor=processor)
    assert (above - above).processor == [0., 0., 0.]
    result = measure.Result('row', 'says')
    for goal, value in ((2.0, 2.0), (2.0, math.nan), (None, 1.0)):
        result.claim('', goal, value)
    assert [one['met'] for one in result.claims] == [True, False, None]


def demo(batches):
    cfg = trainers.configure('demo/sd-kd.py', TINY)
    cfg.train_dataloader.dataset.num_images = 2 * batches
    # its one cycle is as long as the whole run
    cfg.param_scheduler = []
    return cfg


def test_a_stepped_run_is_the_run(tmp_path):
    cfg = demo(3)
    trainer = trainers.Trainer(cfg)
    for _ in range(6):
        trainer()
    cfg.work_dir, cfg.experiment_name = str(tmp_path), 'whole'
    cfg.train_cfg.max_epochs = 2
    whole = Runner.from_cfg(cfg)
    whole.train()
    assert trainer.runner.iter == whole.iter == 6
    assert trainer.runner.epoch == 1  # the next step ends the second
    mine, theirs = trainer.model.state_dict(), whole.model.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for key, history in whole.message_hub.log_scalars.items():
        if 'time' not in key:
            own = trainer.runner.message_hub.get_scalar(key)
            assert own.data[0].tolist() == history.data[0].tolist(), key
    trainer.close()


def test_all_loops_compute_one_loss():
    cfg = demo(8)
    by_hand = bare.BareLoop(cfg, 'cpu')
    images, labels = next(by_hand.batches)
    expected = by_hand.compute(images, labels).item()
    samples = [DataSample().set_gt_label(label) for label in labels]
    with trainers.started(
            dict(ours=cfg, fast=trainers.fast(cfg),
                 stock=trainers.stock(cfg))) as runs:
        for name in ('ours', 'stock'):
            model = runs[name].model
            model.train()
            for network in ('student', 'teacher'):
                getattr(model, network).load_state_dict(
                    getattr(by_hand, network).state_dict())
            data = model.data_preprocessor(
                dict(inputs=images, data_samples=samples), True)
            losses = model(**data, mode='loss')
            # MMRazor has no weight of the student's own loss
            weight = 1 if name == 'ours' else cfg.model.student_loss_weight
            found = (
                weight * losses['student.loss'] + losses['distill.loss_sdd'])
            assert found.item() == pytest.approx(expected, rel=1e-5), name
        assert runs['fast'].model.teacher_inference.prepared


@pytest.mark.parametrize('criterion', shapes.CRITERIA)
def test_the_plain_writing_is_the_same_loss(criterion):
    for shape in (shapes.Shape(
            batch=3, classes=7, side=7, student=5, teacher=6),
                  shapes.Shape(
                      batch=2,
                      classes=2,
                      side=8,
                      student=4,
                      teacher=4,
                      scales=(1, 2))):
        loss = shapes.Loss(shape, criterion, 'cpu')
        assert loss.difference() < 1e-5
        loss.module.consistent_weight = 1.1
        assert loss.difference() > 1e-4


class _Keeper(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x):
        ctx.hidden = x.exp()
        return x.sum()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.hidden


def test_saved_bytes_are_counted_once_and_cannot_hide():
    x, y = (torch.rand(10, requires_grad=True) for _ in range(2))
    assert sum(saved.saved(lambda: (x * y).sum()).values()) == 2 * 40
    assert sum(saved.saved(lambda: (x * x).sum()).values()) == 40
    assert sum(saved.saved(lambda: x.sum()).values()) == 0
    assert sum(saved.saved(lambda: _Keeper.apply(x)).values()) == 40


def test_reads_are_found_where_they_are_made():
    data = torch.arange(4.)
    with sync.reads('cpu') as found:
        data.sum()
        next(iter(DataLoader(data, batch_size=2, shuffle=True)))
    assert not found
    linear = nn.Linear(4, 4)
    with sync.reads('cpu') as found:
        float(linear(data).sum().detach())
        data[data > 1]
        data.tolist()
        data.cpu()
    assert sum(found.values()) == 4, found


def test_peak_memory_is_that_of_the_allocator():

    def call():
        first = torch.empty(1000, 250)
        del first
        second = torch.empty(500, 250)
        return second + 1

    assert growth.peak(call, 'cpu') == pytest.approx(1e6, rel=0.01)


def test_exponents():
    sizes = [1, 2, 4, 8]
    assert growth.exponent(sizes, [n**2 for n in sizes]) == pytest.approx(2)
    assert growth.exponent(sizes, [5, 5, 5, 5]) == pytest.approx(0)


@pytest.mark.parametrize('row', [
    pytest.param(row, marks=[pytest.mark.long] * (row in SLOW)) for row in ROWS
])
def test_every_row_runs(row, tmp_path, capsys):
    out = tmp_path / 'cpu'
    code = command.main([row, '--tiny', '--rounds', '1', '--out', str(out)])
    assert code == 0
    printed = capsys.readouterr().out
    found = json.loads((out / f'{row}.json').read_text())
    assert found['row'] == row and found['claims'] and found['tiny']
    for one in found['claims']:
        assert math.isfinite(one['value'])
        assert f'| {page.name(one)} | ' in printed
    image = (out / f'{row}.png').read_bytes()
    assert image.startswith(b'\x89PNG')


def test_a_result_shows_up_on_the_page_and_a_trial_does_not(tmp_path):
    readme = tmp_path / 'README.md'
    readme.write_text(f'before\n{START}speed -->\n{END}\nafter\n')
    result = measure.Result('loss', 'It is fast.')
    result.claim('this / that', 1.0, 2.0, low=1.5, high=2.5, processor=3.0)
    found = result.as_dict(SimpleNamespace(device='cpu', rounds=5, tiny=True))
    path = tmp_path / 'cpu' / 'loss.json'
    path.parent.mkdir()
    path.write_text(json.dumps(dict(found, seconds=1)))
    with pytest.raises(PageError, match='trial'):
        update_speed(tmp_path)
    path.write_text(json.dumps(dict(found, seconds=1, tiny=False)))
    assert update_speed(tmp_path, check=True) == ['README.md']
    assert update_speed(tmp_path) == ['README.md']
    assert update_speed(tmp_path, check=True) == []
    text = readme.read_text()
    assert text.startswith('before\n') and text.endswith('\nafter\n')
    assert ('| this / that | 1 | **2 (1.5 to 2.5), not met** | 3 | '
            'not measured |') in text


def test_trials_are_no_results(capsys):
    for argv in (['loss', '--tiny'], ['loss', '--rounds', '4']):
        with pytest.raises(SystemExit):
            command.parse_args(argv)


@pytest.mark.parametrize('name', [
    name if name in ('kd', 'fitnet', 'crd', 'reviewkd', 'sd-sskd') else
    pytest.param(name, marks=pytest.mark.long)
    for name in (*methods.SDD, *methods.BASELINES)
])
def test_a_method_by_hand_is_the_same_loss(name, tmp_path):
    cfgs = methods.configs((name, ), TINY, tmp_path)
    cfgs[name].train_dataloader.batch_size = 4
    losses = cfgs[name].model.distiller.distill_losses
    losses.get('loss_semckd', {}).update(batch_size=4)
    losses.get('loss_crd', {}).update(num_data=96)
    trainer = trainers.Trainer(cfgs[name])
    step = methods.Step(trainer)
    step()
    by_hand = by_hand_of(trainer, step.batch)
    found = []
    for compute in (by_hand.compute, lambda: trainer.model.parse_losses(
            trainer.model(**step.batch, mode='loss'))[0]):
        torch.manual_seed(0)
        found.append(compute().item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    before = [p.clone() for p in by_hand.learned]
    by_hand()
    assert not all(map(torch.equal, before, by_hand.learned))
    trainer.close()
