# Copyright (c) sdd_mm contributors. All rights reserved.
import json
import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from toy import PREPROCESSOR, algorithm, classifier, sdd_loss

from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.hooks import DistillWarmupHook, FrozenTeacherHook
from sdd_mm.engine.hooks.sdd_report_hook import CASES, prefixes
from sdd_mm.functional.scale_decoupled import complementary_cells
from sdd_mm.models.algorithms import TeacherError

SCENES = dict(
    type='DigitScenes',
    split='train',
    num_scenes=24,
    pipeline=[dict(type='PackInputs')])


def runner(work_dir, model=None, hooks=(), epochs=2, **kwargs):
    """A run of three iterations an epoch."""
    config = dict(
        model=model or algorithm(),
        work_dir=str(work_dir),
        # loggers are kept by name and second: never another test's
        experiment_name=Path(work_dir).name,
        default_scope='mmpretrain',
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=SCENES,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=list(hooks),
        randomness=dict(seed=0))
    config.update(kwargs)
    return Runner.from_cfg(ConfigDict(config))


class Spy:
    """Writes down a loss's warm-up factor at every iteration."""

    def __init__(self, run):
        self.seen = []
        loss = run.model.distiller.distill_losses['loss_sdd']
        loss.register_forward_pre_hook(
            lambda *args: self.seen.append(round(loss.warmup.item(), 4)))


WARM = dict(type='DistillWarmupHook', loss='loss_sdd', epochs=4)


def test_warmup_factor_of_a_run_and_of_its_resumption(tmp_path):
    seen = []
    for epochs, resume in ((2, {}),
                           (5,
                            dict(
                                resume=True,
                                load_from=str(tmp_path / 'epoch_2.pth')))):
        run = runner(tmp_path, hooks=[WARM], epochs=epochs, **resume)
        spy = Spy(run)
        run.train()
        seen += spy.seen
    assert seen == [.25] * 3 + [.5] * 3 + [.75] * 3 + [1.] * 6


def test_warmup_factor_per_iteration(tmp_path):
    run = runner(
        tmp_path, hooks=[dict(WARM, epochs=2, by_epoch=False)], epochs=3)
    spy = Spy(run)
    run.train()
    assert spy.seen == [round(i / 6, 4) for i in range(1, 7)] + [1.] * 3
    assert 'does not end' not in next(tmp_path.rglob('*.log')).read_text()


def test_warmup_in_iterations(tmp_path, monkeypatch):
    # MMEngine waits two seconds between two passes over the data
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)
    run = runner(
        tmp_path, hooks=[WARM], train_cfg=dict(by_epoch=False, max_iters=7))
    spy = Spy(run)
    run.train()
    assert spy.seen == [.25] * 3 + [.5] * 3 + [.75]
    log = next(tmp_path.rglob('*.log')).read_text()
    assert ('warm-up of loss_sdd over 4 epochs of 3 iterations does not end '
            'within the 7 iterations of this run: its weight only reaches 0.75'
            ) in log


def test_warmup_scales_the_loss():
    from toy import build, losses
    model = build()
    full = losses(model)['distill.loss_sdd']
    model.distiller.distill_losses['loss_sdd'].warmup.fill_(0.25)
    torch.testing.assert_close(losses(model)['distill.loss_sdd'], full / 4)


def test_warmup_of_an_absent_loss_is_an_error(tmp_path):
    run = runner(tmp_path, hooks=[dict(WARM, loss='loss_sd')])
    with pytest.raises(PreflightError, match="'loss_sd'.*loss_sdd"):
        run.train()
    with pytest.raises(ValueError, match='epochs'):
        DistillWarmupHook(loss='loss_sdd', epochs=0)


@pytest.fixture
def teacher(tmp_path):
    from toy import build_classifier
    path = tmp_path / 'teacher.pth'
    torch.save(build_classifier(width=8).state_dict(), path)
    return path


def trained(work_dir, teacher, **kwargs):
    run = runner(
        work_dir,
        algorithm(teacher_ckpt=str(teacher), allow_untrained_teacher=False),
        hooks=[dict(type='FrozenTeacherHook')],
        **kwargs)
    run.train()
    return run


def test_checkpoint_holds_the_teachers_hash_and_not_the_teacher(
        tmp_path, teacher):
    run = trained(tmp_path / 'run', teacher, epochs=1)
    content = torch.load(tmp_path / 'run' / 'epoch_1.pth')
    assert content['meta']['teacher_sha256'] == run.model.teacher_hash
    assert not [n for n in content['state_dict'] if n.startswith('teacher.')]
    resume = dict(resume=True, load_from=str(tmp_path / 'run' / 'epoch_1.pth'))
    trained(tmp_path / 'run', teacher, epochs=2, **resume)
    state = torch.load(teacher)
    state['head.fc.bias'] += 1
    torch.save(state, teacher)
    with pytest.raises(TeacherError, match='distilled from another teacher'):
        trained(tmp_path / 'run', teacher, epochs=3, **resume)
    # a new run may start from a student of another teacher
    trained(tmp_path / 'new', teacher, epochs=1, load_from=resume['load_from'])


def test_ranks_with_different_teachers_are_refused(monkeypatch):
    module = 'sdd_mm.engine.hooks.frozen_teacher_hook'
    monkeypatch.setattr(f'{module}.all_gather_object',
                        lambda mine: [mine, 'another'])
    run = SimpleNamespace(
        model=SimpleNamespace(teacher_hash='mine'), logger=logging.getLogger())
    with pytest.raises(TeacherError, match='the ranks have different'):
        FrozenTeacherHook().before_train(run)


def test_ema_run_and_its_checkpoint(tmp_path, teacher):
    run = trained(
        tmp_path,
        teacher,
        custom_hooks=[
            dict(type='FrozenTeacherHook'),
            dict(type='EMAHook', momentum=0.1)
        ],
        val_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=dict(SCENES, split='test'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate')),
        val_evaluator=dict(type='Accuracy', topk=(1, )),
        val_cfg=dict())
    content = torch.load(tmp_path / 'epoch_2.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert not [n for n in content[part] if 'teacher.' in n]
    state = torch.load(teacher)
    for name, value in run.model.teacher.state_dict().items():
        assert torch.equal(value.cpu(), state[name]), name
    trained(
        tmp_path,
        teacher,
        epochs=3,
        custom_hooks=[dict(type='EMAHook', momentum=0.1)],
        resume=True,
        load_from=str(tmp_path / 'epoch_2.pth'))


def test_report_says_what_is_distilled(tmp_path):
    wide = classifier(width=8, data_preprocessor=PREPROCESSOR)
    wide['backbone'] = dict(
        type='ResNet', depth=18, num_stages=4, out_indices=(3, ))
    wide['head']['in_channels'] = 512
    model = algorithm(
        teacher=wide,
        distiller=dict(
            type='SDDDistiller',
            distill_losses=dict(
                loss_sdd=sdd_loss('DKDCriterion', scales=(1, 2, 4)))))
    run = runner(tmp_path, model, hooks=[dict(type='SDDReportHook')])
    run.train()
    log = next(tmp_path.rglob('*.log')).read_text()
    assert log.count('21 cells per image, scales (1, 2, 4)') == 1
    assert ('student: map 8 x 8 of 16 channels, input of neck.gap, classifier '
            'head.fc') in log
    assert 'teacher: map 1 x 1 of 512 channels' in log
    assert 'teacher: scales [2, 4] repeat cells' in log
    assert 'student: scales' not in log
    assert log.count('sdd/complementary: ') == 6


def test_reported_parts_are_those_of_the_loss(tmp_path):
    run = runner(tmp_path, hooks=[dict(type='SDDReportHook', interval=2)])
    loss, expected, shares, cases = run.model.distiller.distill_losses[
        'loss_sdd'], [], [], []

    def hear(module, args, kwargs, output):
        local = kwargs['teacher'].local_logits(module.scales, module.pooling)
        mask = complementary_cells(local, kwargs['target'])
        shares.append(mask.float().mean().item())
        right = local.argmax(dim=-1) == kwargs['target']
        counts = Counter((bool(image), bool(cell)) for row in right
                         for image, cell in zip(right[0], row))
        cases.append([
            counts[case] / right.numel()
            for case in ((True, True), (True, False), (False, True), (False,
                                                                      False))
        ])
        expected.append(output.item())

    loss.register_forward_hook(hear, with_kwargs=True)
    run.train()

    def reported(name):
        return run.message_hub.get_scalar(f'train/sdd/{name}').data[0]

    # every second iteration of an epoch, and its last
    at = [1, 2, 4, 5]
    torch.testing.assert_close(
        reported('complementary').tolist(), [shares[i] for i in at])
    torch.testing.assert_close([reported(name).tolist() for name in CASES],
                               list(map(list, zip(*(cases[i] for i in at)))))
    whole = [expected[i] for i in at]
    for names in ([f'part_scale{m}' for m in loss.scales],
                  ['part_consistent', 'part_complementary']):
        torch.testing.assert_close(sum(map(reported, names)).tolist(), whole)
    # MMEngine writes the mean of ten losses, but of these the last
    rows = [
        json.loads(line) for line in next(tmp_path.rglob(
            'scalars.json')).read_text().splitlines()
    ]
    written = [
        row['sdd/part_scale1'] for row in rows if 'sdd/part_scale1' in row
    ]
    history = reported('part_scale1').tolist()
    assert len(written) > 1
    assert all(
        min(abs(value - one) for one in history) < 1e-6 for value in written)
    # after training only the listener of this test is left
    assert list(loss._forward_hooks.values()) == [hear]


@pytest.mark.parametrize('names, wanted', [
    (['loss_sdd'], ['sdd']),
    (['loss_fine', 'coarse_loss'], ['sdd/fine', 'sdd/coarse']),
    (['loss_a', 'a'], ['sdd/1', 'sdd/2']),
    (['loss', 'b'], ['sdd/1', 'sdd/2']),
    (['loss_time', 'b'], ['sdd/1', 'sdd/2']),
])
def test_no_part_has_a_name_that_is_averaged(names, wanted):
    assert prefixes(names) == wanted


def test_a_recipe_switches_the_students_loss(tmp_path):
    recipe = dict(
        action_epoch=2, loss=dict(type='LabelSmoothLoss', label_smooth_val=.1))
    run = runner(
        tmp_path, hooks=[dict(type='SwitchRecipeHook', schedule=[recipe])])
    run.train()
    found = run.model.architecture.head.loss_module
    assert type(found).__name__ == 'LabelSmoothLoss'
    assert 'loss_module' not in vars(run.model)['_modules']


def test_precise_batch_norms_are_the_students(tmp_path):
    run = runner(
        tmp_path,
        epochs=1,
        hooks=[
            dict(type='PreciseBNHook', num_samples=16),
            dict(type='ExactResumeHook')
        ])
    before = {
        name: value.clone()
        for name, value in run.model.teacher.state_dict().items()
    }
    run.train()
    after = run.model.teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    logs = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    norms = [
        one for one in run.model.architecture.modules()
        if isinstance(one, torch.nn.BatchNorm2d)
    ]
    assert f'{len(norms)} BN found, run 2 iters' in logs


def test_a_network_alone_channels_last(tmp_path):
    """The same run up to rounding, its weights laid out the other way."""
    found = []
    for name, hooks in (('plain', ()), ('last',
                                        [dict(type='ChannelsLastHook')])):
        run = runner(
            tmp_path / name,
            dict(classifier(width=8), data_preprocessor=PREPROCESSOR),
            hooks,
            epochs=1)
        run.train()
        weight = run.model.backbone.layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == (
            name == 'last')
        found.append(run.message_hub.get_scalar('train/loss').data[0])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_channels_last_is_refused_where_a_kernel_is_wrong(
        tmp_path, monkeypatch):
    monkeypatch.setattr('sdd_mm.models.algorithms.channels_last.get_device',
                        lambda: 'cpu')
    run = runner(tmp_path,
                 dict(classifier(width=4), data_preprocessor=PREPROCESSOR),
                 [dict(type='ChannelsLastHook')])
    with pytest.raises(ValueError, match='remove ChannelsLastHook'):
        run.train()
