# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every shipped config builds and takes a smoke step."""
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import TRANSFORMS
from mmrazor.models.losses import KLDivergence
from mmrazor.registry import MODELS

from sdd_mm import LocalLogits
from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.smoke import to_smoke
from sdd_mm.images import innermost
from sdd_mm.models import FrozenTeacherDistill
from sdd_mm.models.losses import ScaleDecoupledLoss

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
METHODS = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
RELEASED = ('nkd-released', 'sd-nkd-released')
FINE, COARSE = (1, 2, 4), (1, 2)
# from the paper and the authors' files: learning rate, scales, DKD's beta and
# tau, and whether there are SD-NKD numbers to compare with
PAIRS = {
    'res50_mbv1_imagenet': (0.2, FINE, 2.0, 1.0, True),
    'res34_res18_imagenet': (0.2, COARSE, 0.5, 1.0, False),
    'res32x4_res8x4_cifar100': (0.05, COARSE, 8.0, 4.0, True),
    'res32x4_shuv1_cifar100': (0.01, FINE, 8.0, 4.0, True),
    'res32x4_shuv2_cifar100': (0.01, FINE, 8.0, 4.0, True),
    'res32x4_mbv2_cifar100': (0.01, FINE, 8.0, 4.0, True),
    'wrn40-2_shuv1_cifar100': (0.01, FINE, 8.0, 4.0, True),
    'wrn40-2_vgg8_cifar100': (0.05, FINE, 8.0, 4.0, True),
    'wrn40-2_mbv2_cifar100': (0.01, FINE, 6.0, 4.0, True),
    'wrn40-2_wrn16-2_cifar100': (0.05, COARSE, 6.0, 4.0, False),
    'wrn40-2_wrn40-1_cifar100': (0.05, COARSE, 6.0, 4.0, False),
    'res50_mbv2_cifar100': (0.01, FINE, 8.0, 4.0, True),
    'res50_vgg8_cifar100': (0.05, FINE, 8.0, 4.0, True),
    'res50_shuv1_cifar100': (0.01, FINE, 8.0, 4.0, True),
    'vgg13_vgg8_cifar100': (0.05, COARSE, 6.0, 4.0, True),
    'vgg13_mbv2_cifar100': (0.01, FINE, 6.0, 4.0, True),
    'res56_res20_cifar100': (0.05, COARSE, 2.0, 4.0, False),
    'res110_res32_cifar100': (0.05, COARSE, 2.0, 4.0, False),
    'res32x4_mbv2_cub200': (0.01, FINE, 8.0, 4.0, True),
    'res32x4_shuv1_cub200': (0.01, FINE, 8.0, 4.0, True),
    'vgg13_mbv2_cub200': (0.01, FINE, 6.0, 4.0, True),
    'vgg13_vgg8_cub200': (0.05, FINE, 6.0, 4.0, True),
    'res50_shuv1_cub200': (0.01, FINE, 8.0, 4.0, True),
}
# SD-NKD's scales where they are not the pair's
SD_NKD_SCALES = {
    'wrn40-2_vgg8_cifar100': COARSE,
    'res50_vgg8_cifar100': COARSE,
}
FOUNDATION = ('res50_mbv1_imagenet', 'res34_res18_imagenet',
              'res32x4_res8x4_cifar100', 'vgg13_vgg8_cub200')


def methods_of(pair):
    return METHODS + RELEASED if PAIRS[pair][-1] else METHODS


RUNS = [(method, pair) for pair in PAIRS for method in methods_of(pair)]


def parse(directory, name):
    return Config.fromfile(CONFIGS / directory / f'{name}.py')


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
    for step in innermost(cfg.train_dataloader.dataset)['pipeline']:
        for key in ('crop_size', 'scale'):
            if step.get(key) in (224, 448):
                step[key] = 64
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


def test_no_run_is_missing_and_none_is_unknown():
    runs = {
        path.stem
        for path in sorted((CONFIGS / 'sdd').glob('*.py'))
        if 'xb' not in path.stem and not path.stem.endswith('_paper')
    }
    assert runs == {'_'.join(run) for run in RUNS}
    assert len(PAIRS) == 23 and len(RUNS) == 174


def test_configs_are_short():
    for path in CONFIGS.rglob('*.py'):
        if path.parent.name != 'datasets' and 'runtime' not in path.stem:
            assert len(path.read_text().splitlines()) <= 25, path


@pytest.mark.parametrize('method, pair', RUNS)
def test_numbers_of_every_run(method, pair):
    lr, scales, beta, tau, _ = PAIRS[pair]
    imagenet = pair.endswith('imagenet')
    criterion, weight, student_weight = {
        'kd': (dict(type='KDCriterion', tau=4.0), 0.9, 0.1),
        'dkd': (dict(type='DKDCriterion', alpha=1.0, beta=beta,
                     tau=tau), 1.0, 1.0),
        'nkd': (dict(type='NKDCriterion', gamma=1.5, tau=1.0), 1.0, 1.0),
        'nkd-released':
        (dict(type='NKDCriterion', gamma=1.5, tau=1.0,
              keep_target=True), 1.0, 1.0),
    }[method.removeprefix('sd-')]
    if method == 'kd' and imagenet:
        criterion['tau'], weight, student_weight = 1.0, 0.5, 0.5
    if method == 'sd-nkd-released':
        criterion.update(gamma=beta, tau=tau)
    loss = dict(type='LogitLoss', criterion=criterion, loss_weight=weight)
    name = f'loss_{method.split("-")[0]}'
    if method.startswith('sd-'):
        if 'nkd' in method:
            scales = SD_NKD_SCALES.get(pair, scales)
        loss.update(type='ScaleDecoupledLoss', scales=scales)
        name = 'loss_sdd'
    hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
    if not imagenet and method.removeprefix('sd-') != 'kd':
        hooks.append(dict(type='DistillWarmupHook', loss=name, epochs=20))

    cfg = parse('sdd', f'{method}_{pair}')
    model = cfg.model
    assert model.type == 'FrozenTeacherDistill'
    assert model.distiller.to_dict() == dict(
        type='SDDDistiller', distill_losses={name: loss})
    assert model.student_loss_weight == student_weight
    assert [dict(hook) for hook in cfg.custom_hooks] == hooks
    assert cfg.default_hooks.scalars.type == 'DeferredScalarsHook'
    assert cfg.optim_wrapper.type == 'DeferredOptimWrapper'
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=40)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD',
        lr=lr,
        momentum=0.9,
        weight_decay=1e-4 if imagenet else 5e-4)
    assert cfg.param_scheduler.milestones == ([30, 60, 90]
                                              if imagenet else [150, 180, 210])
    assert cfg.train_cfg.max_epochs == (100 if imagenet else 240)
    assert cfg.train_dataloader.batch_size == 64


@pytest.mark.parametrize('pair', PAIRS)
def test_every_run_of_a_pair_steps(pair, tmp_path):
    runner, losses = smoke(CONFIGS / 'sdd' / f'sd-kd_{pair}.py', tmp_path)
    assert {'student.loss', 'distill.loss_sdd'} <= set(losses)
    model = runner.model
    assert isinstance(model, FrozenTeacherDistill)
    batch = next(iter(runner.train_dataloader))
    for method in methods_of(pair):
        cfg = parse('sdd', f'{method}_{pair}').model
        # student and teacher stay: building them is what takes long
        model.distiller = MODELS.build(dict(cfg.distiller, _scope_='mmrazor'))
        model.distiller.prepare_from_student(model.student)
        model.distiller.prepare_from_teacher(model.teacher)
        model.student_loss_weight = cfg.student_loss_weight
        losses = model.train_step(batch, runner.optim_wrapper)
        name, = cfg.distiller.distill_losses
        assert {'student.loss', f'distill.{name}'} <= set(losses)
        assert all(torch.isfinite(value) for value in losses.values())
        assert losses[f'distill.{name}'] > 0


@pytest.mark.parametrize('pair', FOUNDATION)
def test_warm_up_and_weights_reach_the_runner(pair, tmp_path):
    runner, losses = smoke(CONFIGS / 'sdd' / f'sd-dkd_{pair}.py', tmp_path)
    loss = runner.model.distiller.distill_losses['loss_sdd']
    assert isinstance(loss, ScaleDecoupledLoss)
    assert (loss.consistent_weight, loss.complementary_weight) == (1, 2)
    warm = 1.0 if pair.endswith('imagenet') else 1 / 20
    torch.testing.assert_close(loss.warmup, torch.tensor(warm))
    assert runner.optim_wrapper.clip_grad_kwargs['max_norm'] == 40


@pytest.mark.parametrize(
    'path',
    sorted((CONFIGS / 'mmpretrain').glob('*.py')),
    ids=lambda path: path.stem)
def test_mmpretrains_own_configs_gain_sdd(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 15
    cfg = Config.fromfile(path)
    base = Config.fromfile(cfg_base(path))
    for key in ('train_dataloader', 'param_scheduler', 'train_cfg',
                'data_preprocessor'):
        assert unscoped(cfg[key]) == unscoped(base[key]), key
    assert unscoped(cfg.optim_wrapper) == unscoped(
        dict(base.optim_wrapper, type='DeferredOptimWrapper'))
    assert unscoped(cfg.default_hooks) == unscoped(
        dict(base.default_hooks, **cfg.sdd_mm_hooks))
    assert unscoped(cfg.model.architecture) == unscoped(base.model)
    runner, losses = smoke(path, tmp_path)
    assert 'distill.loss_sdd' in losses
    assert {hook.type
            for hook in cfg.sdd_mm_hooks.values()
            } <= {type(hook).__name__
                  for hook in runner.hooks}


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
    'path',
    sorted((CONFIGS / 'demo').glob('*.py')),
    ids=lambda path: path.stem)
def test_demo(path, tmp_path):
    smoke(path, tmp_path)


@pytest.mark.parametrize(
    'path',
    sorted((CONFIGS / 'fast').glob('*.py')),
    ids=lambda path: path.stem)
def test_fast_is_the_plain_run_from_memory(path, tmp_path):
    cfg = Config.fromfile(path)
    plain = Config.fromfile(path.parent /
                            path.read_text().split("'")[1]).to_dict()
    for field in ('train_dataloader', 'val_dataloader'):
        loader, theirs = cfg[field].to_dict(), plain[field]
        for key, value in cfg.in_memory.to_dict().items():
            assert loader.pop(key) == value
            theirs.pop(key, None)
        wrapper = loader.pop('dataset')
        assert wrapper.pop('type') == 'InMemoryDataset'
        if field == 'val_dataloader':
            assert wrapper['dataset'].pop('test_mode')
        assert wrapper == dict(dataset=theirs.pop('dataset'))
        assert loader == theirs
    changed = cfg.to_dict()
    for key, value in cfg.fast_model.to_dict().items():
        assert changed['model'].pop(key) == value
    if 'cub200' not in path.stem:
        assert changed['custom_hooks'][-1:] == cfg.fast_hooks
        changed['custom_hooks'].pop()
    for key in plain.keys() - {'train_dataloader', 'val_dataloader'}:
        assert changed[key] == plain[key], key
    runner, losses = smoke(path, tmp_path)
    assert {'student.loss', 'distill.loss_sdd'} <= set(losses)
    assert type(runner.train_dataloader.dataset).__name__ == 'InMemoryDataset'


@pytest.mark.parametrize('pair', PAIRS)
def test_vanilla_trains_the_networks_of_a_pair(pair):
    teacher, student, data = pair.split('_')
    cfg = parse('sdd', f'kd_{pair}')
    for name, model in ((teacher, cfg.model.teacher),
                        (student, cfg.model.architecture)):
        alone = parse('vanilla', f'{name}_{data}')
        model.pop('data_preprocessor', None)
        assert alone.model == model
        for key in ('train_dataloader', 'val_dataloader', 'data_preprocessor',
                    'param_scheduler', 'train_cfg', 'auto_scale_lr'):
            assert alone[key] == cfg[key], key
        lr = 0.2 if data == 'imagenet' else 0.05
        if name == student:
            lr = PAIRS[pair][0]
        assert alone.optim_wrapper == dict(
            type='DeferredOptimWrapper',
            optimizer=dict(cfg.optim_wrapper.optimizer, lr=lr))
    if data != 'imagenet':
        assert cfg.model.teacher_ckpt == (
            f'work_dirs/{teacher}_{data}/epoch_{cfg.train_cfg.max_epochs}.pth')


@pytest.mark.parametrize(
    'path',
    sorted((CONFIGS / 'vanilla').glob('*.py')),
    ids=lambda path: path.stem)
def test_vanilla(path, tmp_path):
    _, losses = smoke(path, tmp_path)
    assert 'loss' in losses


def test_paper(tmp_path):
    name = 'sd-kd_res32x4_res8x4_cifar100_paper'
    runner, _ = smoke(CONFIGS / 'sdd' / f'{name}.py', tmp_path)
    loss = runner.model.distiller.distill_losses['loss_sdd']
    assert (loss.pooling, loss.consistency, loss.reduction) == ('direct',
                                                                'class', 'sum')
    assert runner.optim_wrapper.clip_grad_kwargs['max_norm'] == 5


def test_a_name_is_one_config():
    """mim and register_models() look for configs by their names alone."""
    counts = Counter(
        path.stem for path in CONFIGS.rglob('*.py')
        if '_base_' not in path.parts)
    assert not [name for name, count in counts.items() if count > 1]


def test_published_names_are_aliases():
    aliases = [
        path for path in sorted((CONFIGS / 'sdd').glob('*.py'))
        if 'xb' in path.stem
    ]
    assert len(aliases) == len(METHODS) * len(FOUNDATION)
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


def test_mmrazors_kd_as_the_page_on_migration_has_it(tmp_path):
    page = (CONFIGS.parent / 'docs' / 'en' / 'migration.md').read_text()
    path = tmp_path / 'kd.py'
    path.write_text(page.split('```python\n')[1].split('```')[0])
    runner, losses = smoke(path, tmp_path / 'run')
    assert 'distill.loss_kl' in losses
    distiller = runner.model.distiller
    rows = [torch.rand(4, 1000) for _ in range(2)]
    found = distiller.distill_losses.loss_kl(
        *(LocalLogits(row[None], (1, ), 'direct') for row in rows),
        torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(found,
                               KLDivergence(tau=1, loss_weight=3)(*rows))


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


def test_custom_imports_come_from_the_runtime_alone():
    allowed = {'default_runtime.py'}
    for path in CONFIGS.rglob('*.py'):
        if 'custom_imports' in path.read_text():
            # MMPretrain's own bases have a runtime of their own
            assert path.name in allowed or path.parent.name == 'mmpretrain'


def test_cub_is_resized_as_by_the_authors(tmp_path):
    """By Pillow, which smooths where it shrinks; OpenCV does not."""
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/cub200_bs64_224.py')
    image = np.random.default_rng(0).integers(
        256, size=(500, 400, 3), dtype=np.uint8)
    pillow = PIL.Image.fromarray(image).resize((256, 256),
                                               PIL.Image.Resampling.BILINEAR)
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        found = TRANSFORMS.build(pipeline[1])(dict(img=image))['img']
        np.testing.assert_array_equal(found, np.asarray(pillow))
