# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every hook of MMEngine and MMPretrain, beside ours, for two short epochs.

The table of the outcomes is docs/en/hooks.md; ``pytest --long
tests/test_engine/test_hooks_of_others.py --write-hooks`` writes it anew.
"""
import copy
from pathlib import Path

import mmengine.hooks
import mmpretrain.engine.hooks
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from short_run import SGD, loader, validated
from toy import algorithm

from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight import check_training, hand_over
from sdd_mm.weights import weights_hash

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'en' / 'hooks.md'
MEASURED = '<!-- measured by tests/test_engine/test_hooks_of_others.py: what '\
           'follows is written by it -->\n'
TRAINS, REFUSED = 'trains', 'refused'
MIXES = dict(augments=[dict(type='Mixup', alpha=0.8)])


def recipe(**kwargs):
    return dict(
        type='SwitchRecipeHook', schedule=[dict(action_epoch=2, **kwargs)])


# title: (hook, outcome); hooks that are on in every run have their own row
HOOKS = {
    'CheckpointHook, `save_best`':
    (dict(type='CheckpointHook', save_best='auto'), TRAINS),
    'EMAHook': (dict(type='EMAHook',
                     ema_type='ExponentialMovingAverage'), TRAINS),
    'EMAHook, StochasticWeightAverage':
    (dict(type='EMAHook', ema_type='StochasticWeightAverage'), TRAINS),
    'EMAHook, MomentumAnnealingEMA':
    (dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=100), TRAINS),
    'EMAHook, MMPretrain\'s': (dict(
        type='mmpretrain.EMAHook',
        evaluate_on_ema=True,
        evaluate_on_origin=True), TRAINS),
    'EarlyStoppingHook':
    (dict(type='EarlyStoppingHook', monitor='accuracy/top1'), TRAINS),
    'EmptyCacheHook': (dict(type='EmptyCacheHook', after_iter=True), TRAINS),
    'NaiveVisualizationHook': (dict(type='NaiveVisualizationHook'), TRAINS),
    'ProfilerHook':
    (dict(type='ProfilerHook', by_epoch=False, profile_times=2), TRAINS),
    'SyncBuffersHook': (dict(type='SyncBuffersHook'), TRAINS),
    'ClassNumCheckHook': (dict(type='ClassNumCheckHook'), TRAINS),
    'PreciseBNHook': (dict(type='PreciseBNHook', num_samples=8), TRAINS),
    'SwitchRecipeHook, loss':
    (recipe(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)), TRAINS),
    'SwitchRecipeHook, pipeline': (recipe(train_pipeline=[
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackInputs')
    ]), TRAINS),
    'SwitchRecipeHook, Mixup of hard labels': (recipe(batch_augments=MIXES),
                                               REFUSED),
    'VisualizationHook':
    (dict(type='VisualizationHook', enable=True, interval=1), TRAINS),
    'WarmupParamHook': (dict(
        type='WarmupParamHook',
        param_name='loss_weight',
        module_name='architecture.head.loss_module',
        warmup_epochs=2), TRAINS),
    'DenseCLHook': (dict(type='DenseCLHook', start_iters=1), REFUSED),
    'SetAdaptiveMarginsHook': (dict(type='SetAdaptiveMarginsHook'), REFUSED),
    'PrepareProtoBeforeValLoopHook':
    (dict(type='PrepareProtoBeforeValLoopHook'), REFUSED),
    'SimSiamHook': (dict(type='SimSiamHook', fix_pred_lr=True,
                         lr=0.1), TRAINS),
    'SwAVHook': (dict(
        type='SwAVHook',
        batch_size=4,
        epoch_queue_starts=1,
        crops_for_assign=[0],
        feat_dim=4,
        queue_length=8), REFUSED),
}
ALWAYS_ON = ('DistSamplerSeedHook', 'IterTimerHook', 'LoggerHook',
             'ParamSchedulerHook', 'RuntimeInfoHook')
ELSEWHERE = {
    'NPUProfilerHook': 'needs an NPU',
    'PrepareTTAHook': 'only for `tools/test.py --tta`',
}


def config(work_dir, hook):
    ours = dict(
        logger=dict(type='LoggerHook', interval=2),
        scalars=dict(type='DeferredScalarsHook'),
        labels=dict(type='LabelCheckHook'),
        finite_loss=dict(type='FiniteLossHook'),
        exact_resume=dict(type='ExactResumeHook'))
    custom = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
    if hook['type'] == 'CheckpointHook':
        ours['checkpoint'] = hook
    else:
        custom.append(hook)
    return Config(
        copy.deepcopy(
            validated(
                model=algorithm(),
                work_dir=str(work_dir),
                experiment_name=f'hooks_{work_dir.name}',
                default_scope='mmpretrain',
                train_dataloader=loader(),
                optim_wrapper=dict(type='DeferredOptimWrapper', optimizer=SGD),
                train_cfg=dict(by_epoch=True, max_epochs=2),
                default_hooks=ours,
                custom_hooks=custom,
                visualizer=dict(type='UniversalVisualizer'),
                randomness=dict(seed=0))),
        format_python_code=False)


def outcome(work_dir, hook):
    """What becomes of a run, and what there is to say of it."""
    cfg = config(work_dir, hook)
    try:
        checked = check_training(cfg)
    except PreflightError as error:
        return REFUSED, str(error)
    runner = hand_over(Runner, checked).from_cfg(cfg)
    model = runner.model
    before = weights_hash(model.teacher)
    runner.train()
    assert weights_hash(model.teacher) == before
    state = torch.load(work_dir / 'epoch_2.pth')['state_dict']
    assert not [name for name in state if name.startswith('teacher.')]
    return TRAINS, ''


def page():
    return PAGE.read_text(encoding='utf-8').split(MEASURED)


@pytest.fixture(scope='module')
def rows(request):
    """The rows of the table, in order."""
    found = {}
    yield found
    if request.config.getoption('--write-hooks') and len(found) == len(HOOKS):
        lines = ['| hook | in a distillation | note |', '|---|---|---|']
        lines += [
            f'| {title} | {kind} | {note} |'
            for title, (kind, note) in found.items()
        ]
        lines += [
            f'| {name} | trains | on in every run |' for name in ALWAYS_ON
        ]
        lines += [
            f'| {name} | not tried | {why} |'
            for name, why in ELSEWHERE.items()
        ]
        PAGE.write_text(
            page()[0] + MEASURED + '\n'.join(lines) + '\n', encoding='utf-8')


@pytest.mark.long
@pytest.mark.parametrize('title', HOOKS)
def test_a_hook_trains_or_is_refused(title, rows, tmp_path, request):
    hook, expected = HOOKS[title]
    kind, note = outcome(tmp_path / 'run', hook)
    assert kind == expected, note
    rows[title] = kind, note.partition(': ')[2] or note
    if not request.config.getoption('--write-hooks'):
        assert f'| {title} | {kind} |' in page()[1]


def test_every_hook_is_in_the_table():
    names = {
        name
        for module in (mmengine.hooks, mmpretrain.engine.hooks)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Hook)
        and value is not Hook and not name.startswith('_')
    }
    table = page()[1]
    assert len(names) > 20
    assert [name for name in sorted(names) if f'| {name}' not in table] == []
