# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every shipped config builds and takes a smoke step."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.smoke import to_smoke
from sdd_mm.models import FrozenTeacherDistill
from sdd_mm.models.losses import LogitLoss, ScaleDecoupledLoss

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
METHODS = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
# the pair's scales and (DKD's beta, tau), and whether it warms up
PAIRS = {
    'res50_mbv1_imagenet': ((1, 2, 4), (2.0, 1.0), False),
    'res34_res18_imagenet': ((1, 2), (0.5, 1.0), False),
    'res32x4_res8x4_cifar100': ((1, 2), (8.0, 4.0), True),
    'vgg13_vgg8_cub200': ((1, 2, 4), (6.0, 4.0), True),
}


def smoke(path, tmp_path):
    """One training step of a config, as `tools/train.py --smoke 1` does."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False)
    # no weights from a hub in a test
    student = cfg.model.get('architecture', cfg.model)
    student.backbone.pop('init_cfg', None)
    note = to_smoke(cfg, 1)
    assert note.startswith('SMOKE RUN')
    check_training(cfg)
    runner = Runner.from_cfg(cfg)
    losses = []
    step = runner.model.train_step
    runner.model.train_step = lambda *args, **kwargs: losses.append(
        step(*args, **kwargs)) or losses[-1]
    runner.train()
    assert len(losses) == 1
    assert all(torch.isfinite(value) for value in losses[0].values())
    assert not list(tmp_path.rglob('*.pth'))
    return runner, losses[0]


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('method', METHODS)
def test_methods_of_the_papers_pairs(pair, method, tmp_path):
    scales, dkd, warms = PAIRS[pair]
    runner, losses = smoke(CONFIGS / 'sdd' / f'{method}_{pair}.py', tmp_path)
    model, decoupled = runner.model, method.startswith('sd-')
    name = 'loss_sdd' if decoupled else f'loss_{method}'
    assert {'student.loss', f'distill.{name}'} <= set(losses)
    assert isinstance(model, FrozenTeacherDistill)
    loss = model.distiller.distill_losses[name]
    assert isinstance(loss, ScaleDecoupledLoss if decoupled else LogitLoss)
    if decoupled:
        assert loss.scales == scales
        assert (loss.consistent_weight, loss.complementary_weight) == (1, 2)
    if method == 'kd' and 'imagenet' in pair:
        weights = (0.5, 0.5, 1.0)
    elif method.endswith('-kd') or method == 'kd':
        weights = (0.1, 0.9, 4.0)
    elif method.endswith('dkd'):
        weights = (1.0, 1.0, dkd[1])
        assert (loss.criterion.alpha, loss.criterion.beta) == (1.0, dkd[0])
    else:
        weights = (1.0, 1.0, 1.0)
        assert loss.criterion.gamma == 1.5 and not loss.criterion.keep_target
    assert (model.student_loss_weight, loss.loss_weight,
            loss.criterion.tau) == weights
    hooks = {type(hook).__name__: hook for hook in runner.hooks}
    assert {'FrozenTeacherHook', 'SDDReportHook'} <= set(hooks)
    warm = warms and method[-3:] in ('dkd', 'nkd')
    assert ('DistillWarmupHook' in hooks) == warm
    if warm:
        assert hooks['DistillWarmupHook'].epochs == 20
        torch.testing.assert_close(loss.warmup, torch.tensor(1 / 20))
    assert runner.optim_wrapper.clip_grad_kwargs['max_norm'] == 40


@pytest.mark.parametrize(
    'path', (CONFIGS / 'mmpretrain').glob('*.py'), ids=lambda path: path.stem)
def test_mmpretrains_own_configs_gain_sdd(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 15
    cfg = Config.fromfile(path)
    base = Config.fromfile(cfg_base(path))
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler',
                'train_cfg', 'data_preprocessor', 'default_hooks'):
        assert unscoped(cfg[key]) == unscoped(base[key]), key
    assert unscoped(cfg.model.architecture) == unscoped(base.model)
    _, losses = smoke(path, tmp_path)
    assert 'distill.loss_sdd' in losses


def unscoped(config):
    """A config without the scopes that inheritance across packages adds."""
    if isinstance(config, dict):
        return {
            key: unscoped(value)
            for key, value in config.items() if key != '_scope_'
        }
    if isinstance(config, (list, tuple)):
        return [unscoped(value) for value in config]
    return config


def cfg_base(path):
    import mmpretrain
    name = path.stem.split('_', 1)[1]
    root = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    return next(root.glob(f'*/{name}.py'))


@pytest.mark.parametrize(
    'path', (CONFIGS / 'demo').glob('*.py'), ids=lambda path: path.stem)
def test_demo(path, tmp_path):
    smoke(path, tmp_path)


@pytest.mark.parametrize(
    'path', [
        *(CONFIGS / 'vanilla').glob('*.py'),
        *(CONFIGS / 'sdd').glob('*_paper.py')
    ],
    ids=lambda path: path.stem)
def test_vanilla_and_paper(path, tmp_path):
    runner, _ = smoke(path, tmp_path)
    if path.stem.endswith('_paper'):
        loss = runner.model.distiller.distill_losses['loss_sdd']
        assert (loss.pooling, loss.consistency,
                loss.reduction) == ('direct', 'class', 'sum')


def test_published_names_are_aliases():
    aliases = [
        path for path in (CONFIGS / 'sdd').glob('*.py') if 'xb' in path.stem
    ]
    assert len(aliases) == len(METHODS) * len(PAIRS)
    for path in aliases:
        text = path.read_text()
        assert text.startswith('_base_ = ') and text.count('\n') == 1
        target = Config.fromfile(path.parent / text.split("'")[1])
        alias = Config.fromfile(path)
        assert alias.to_dict() == target.to_dict()
        gpus, batch = path.stem.split('_')[-2].split('xb')
        assert alias.train_dataloader.batch_size == int(batch)
        base = alias.auto_scale_lr.base_batch_size
        assert int(gpus) * int(batch) == base


@pytest.mark.parametrize('page', ['README.md', 'docs/en/get_started.md'])
def test_the_documented_example(page, tmp_path):
    text = (CONFIGS.parent / page).read_text()
    example = text.split("""```python
_base_ = ['mmpretrain::""")[1].split('```')[0]
    path = tmp_path / 'example.py'
    path.write_text(f"_base_ = ['mmpretrain::{example}")
    assert len(path.read_text().splitlines()) <= 15
    base = Config.fromfile(path)
    assert base.train_dataloader.dataset.type == 'CIFAR10'
    assert base.param_scheduler.milestones == [100, 150]
    runner, losses = smoke(path, tmp_path / 'run')
    assert 'distill.loss_sdd' in losses
    assert type(runner.model.teacher.backbone).__name__ == 'ResNet_CIFAR'
    hooks = {type(hook).__name__ for hook in runner.hooks}
    assert {'FrozenTeacherHook', 'SDDReportHook'} <= hooks


def test_released_nkd_fragments():
    methods = CONFIGS / '_base_' / 'methods'
    found = {
        name: Config.fromfile(methods / f'{name}.py').distill_losses
        for name in ('nkd-released', 'sd-nkd-released')
    }
    plain = found['nkd-released'].loss_nkd.criterion
    assert (plain.tau, plain.gamma, plain.keep_target) == (1.0, 1.5, True)
    released = found['sd-nkd-released'].loss_sdd.criterion
    assert (released.tau, released.gamma, released.keep_target) == (4.0, 8.0,
                                                                    True)


def test_custom_imports_come_from_the_runtime_alone():
    allowed = {'default_runtime.py'}
    for path in CONFIGS.rglob('*.py'):
        if 'custom_imports' in path.read_text():
            # MMPretrain's own bases have a runtime of their own
            assert path.name in allowed or path.parent.name == 'mmpretrain'
