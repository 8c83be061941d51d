# Copyright (c) sdd_mm contributors. All rights reserved.
"""The benchmarks measure what they say they measure."""
import copy
import json
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools' / 'benchmark'))
# isort: off
import speed  # noqa: E402
from claims import bare, growth, measure, page, saved  # noqa: E402
from claims import shapes, sync, trainers  # noqa: E402
# isort: on

TINY = SimpleNamespace(tiny=True, data_root=None, device='cpu', steps=2)
SLOW = ('step', 'sync', 'cache', 'overhead')


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
    assert found == dict(value=2.0, low=2.0, high=3.0, processor=0.5)
    assert (above - above).processor == [0., 0., 0.]
    assert measure.claim('', 2.0, 2.0)['met'] is True
    assert measure.claim('', 2.0, math.nan)['met'] is False


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
    runs = trainers.start(
        dict(ours=cfg, fast=trainers.fast(cfg), stock=trainers.stock(cfg)))
    for trainer in runs.values():
        model = trainer.model
        model.train()
        for name in ('student', 'teacher'):
            weights = getattr(by_hand, name).state_dict()
            # a folded teacher has other weights
            if trainer is not runs['fast'] or name == 'student':
                getattr(model, name).load_state_dict(weights)
    images, labels = next(by_hand.batches)
    expected = by_hand.compute(images, labels).item()
    for name in ('ours', 'stock'):
        model = runs[name].model
        data = model.data_preprocessor(
            dict(inputs=images, data_samples=samples(labels)), True)
        losses = model(**data, mode='loss')
        # MMRazor has no weight of the student's own loss
        weight = 1 if name == 'ours' else cfg.model.student_loss_weight
        found = weight * losses['student.loss'] + losses['distill.loss_sdd']
        assert found.item() == pytest.approx(expected, rel=1e-5), name
    assert runs['fast'].model.teacher_inference.prepared
    trainers.close(runs)


def samples(labels):
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(label) for label in labels]


@pytest.mark.parametrize('criterion', shapes.CRITERIA)
@pytest.mark.parametrize('shape', [
    shapes.Shape(batch=3, classes=7, side=7, student=5, teacher=6),
    shapes.Shape(
        batch=2, classes=2, side=8, student=4, teacher=4, scales=(1, 2))
])
def test_the_plain_writing_is_the_same_loss(criterion, shape):
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
    pytest.param(row, marks=[pytest.mark.long] * (row in SLOW))
    for row in speed.ROWS
])
def test_every_row_runs(row, tmp_path, capsys):
    out = tmp_path / 'cpu'
    code = speed.main([row, '--tiny', '--rounds', '1', '--out', str(out)])
    assert code == 0
    printed = capsys.readouterr().out
    found = json.loads((out / f'{row}.json').read_text())
    assert found['row'] == row and found['claims'] and found['tiny']
    for one in found['claims']:
        assert math.isfinite(one['value'])
        assert f'  {one["title"]}: ' in printed
    image = (out / f'{row}.png').read_bytes()
    assert image.startswith(b'\x89PNG')
    check_page(tmp_path, row, found)


def check_page(folder, row, found):
    page_file = folder / 'README.md'
    page_file.write_text(f'before\n{page.START}{page.END}\nafter\n')
    with pytest.raises(page.PageError, match='trial'):
        page.update(folder, [row])
    found = copy.deepcopy(found)
    found['tiny'] = False
    (folder / 'cpu' / f'{row}.json').write_text(json.dumps(found))
    assert not page.update(folder, [row], check=True)
    page.update(folder, [row])
    assert page.update(folder, [row], check=True)
    text = page_file.read_text()
    assert text.startswith('before\n') and text.endswith('\nafter\n')
    for one in found['claims']:
        assert f'| {page.name(one)} |' in text
    assert page.ABSENT in text


def test_trials_are_no_results(capsys):
    for argv in (['loss', '--tiny'], ['loss', '--rounds', '4']):
        with pytest.raises(SystemExit):
            speed.parse_args(argv)


def test_the_page_says_what_the_results_say():
    assert page.update(ROOT / 'benchmarks', speed.ROWS, check=True)
