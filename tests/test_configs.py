# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every shipped config has its numbers, builds and takes a smoke step."""
from collections import Counter
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import TRANSFORMS
from mmrazor.models.losses import KLDivergence
from mmrazor.registry import MODELS

from sdd_mm import LocalLogits
from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.smoke import to_smoke
from sdd_mm.images import innermost
from sdd_mm.models.losses import ScaleDecoupledLoss

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
METHODS = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
RELEASED = ('nkd-released', 'sd-nkd-released')
PAIRS = sorted(
    path.stem for path in (CONFIGS / '_base_/pairs').glob('*.py')
    if not path.stem.endswith('_scenes'))


@lru_cache(maxsize=None)
def parse(name):
    """A config to look at: it is shared, so change a copy of it alone."""
    return Config.fromfile(CONFIGS / f'{name}.py')


def files(directory):
    return sorted((CONFIGS / directory).glob('*.py'))


def runs_of(pair):
    """The names of a pair's runs, by method."""
    return {
        path.stem[:-len(pair) - 1]: f'sdd/{path.stem}'
        for path in files('sdd') if path.stem.endswith(f'_{pair}')
    }


@contextmanager
def about(name):
    """Say which config it was that failed."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f'{name}: {error}') from error
    finally:
        DefaultScope._instance_dict.clear()


def smoke(path, tmp_path):
    """One training step of a config, as `tools/train.py --smoke 1` does."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path / path.stem)
    cfg.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False)
    if path.stem.startswith('semckd'):
        losses = cfg.model.distiller.distill_losses
        losses.loss_semckd.batch_size = cfg.train_dataloader.batch_size = 4
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
    count = 0
    for pair in PAIRS:
        methods = set(runs_of(pair))
        # released NKD stands beside published numbers: all of it or none
        assert methods in ({*METHODS}, {*METHODS, *RELEASED}), pair
        count += len(methods)
    paper = [path for path in files('sdd') if path.stem.endswith('_paper')]
    assert len(PAIRS) == 23 and count == 174
    assert len(files('sdd')) == count + len(paper)


def test_configs_are_short():
    for path in CONFIGS.rglob('*.py'):
        lines = len(path.read_text().splitlines())
        if path.parent.name == 'sdd':
            assert 2 <= lines <= 5, path
        elif path.parent.name != 'datasets' and 'runtime' not in path.stem:
            assert lines <= 25, path


def test_the_page_shows_a_run_as_it_is_shipped():
    page = (CONFIGS / 'sdd/README.md').read_text()
    path = CONFIGS / 'sdd/sd-dkd_res32x4_shuv1_cifar100.py'
    assert f'```python\n{path.read_text()}```' in page


def test_every_run_has_the_numbers_of_its_pair_and_method():
    for pair in PAIRS:
        numbers, imagenet = parse(f'_base_/pairs/{pair}'), 'imagenet' in pair
        # as in the authors' files
        slow = pair.split('_')[1] in ('mbv2', 'shuv1', 'shuv2')
        lr = 0.2 if imagenet else 0.01 if slow else 0.05
        for method, name in runs_of(pair).items():
            cfg = parse(name)
            loss, weight, student_weight = expected(method, numbers, imagenet)
            key = f'loss_{method.split("-")[0]}'.replace('_sd', '_sdd')
            hooks = [
                dict(type='FrozenTeacherHook'),
                dict(type='SDDReportHook')
            ]
            if not imagenet and method.removeprefix('sd-') != 'kd':
                hooks.append(
                    dict(type='DistillWarmupHook', loss=key, epochs=20))
            with about(name):
                assert cfg.model.type == 'FrozenTeacherDistill'
                assert cfg.model.distiller.to_dict() == dict(
                    type='SDDDistiller',
                    distill_losses={key: dict(loss, loss_weight=weight)})
                assert cfg.model.student_loss_weight == student_weight
                assert [dict(hook) for hook in cfg.custom_hooks] == hooks
                assert cfg.default_hooks.scalars.type == 'DeferredScalarsHook'
                assert cfg.optim_wrapper == dict(
                    type='DeferredOptimWrapper',
                    clip_grad=dict(max_norm=40),
                    optimizer=dict(
                        type='SGD',
                        lr=lr,
                        momentum=0.9,
                        weight_decay=1e-4 if imagenet else 5e-4))
                assert cfg.param_scheduler.milestones == (
                    [30, 60, 90] if imagenet else [150, 180, 210])
                assert cfg.train_cfg.max_epochs == (100 if imagenet else 240)
                assert cfg.train_dataloader.batch_size == 64
                for part in ('architecture', 'teacher', 'teacher_ckpt'):
                    assert cfg.model[part] == numbers.model[part], part


def expected(method, numbers, imagenet):
    """Loss, its weight and that of the cross entropy, as in the papers."""
    criterion, weight, student_weight = {
        'kd': (dict(type='KDCriterion', tau=4.0), 0.9, 0.1),
        'dkd': (dict(type='DKDCriterion', alpha=1.0, **numbers.dkd), 1.0, 1.0),
        'nkd': (dict(type='NKDCriterion', gamma=1.5, tau=1.0), 1.0, 1.0),
        'nkd-released':
        (dict(type='NKDCriterion', gamma=1.5, tau=1.0,
              keep_target=True), 1.0, 1.0),
    }[method.removeprefix('sd-')]
    if method == 'kd' and imagenet:
        criterion['tau'], weight, student_weight = 1.0, 0.5, 0.5
    if method == 'sd-nkd-released':
        criterion.update(gamma=numbers.dkd.beta, tau=numbers.dkd.tau)
    loss = dict(type='LogitLoss', criterion=criterion)
    if method.startswith('sd-'):
        scales = numbers.scales
        if 'nkd' in method:
            scales = numbers.get('sd_nkd_scales', scales)
        loss.update(type='ScaleDecoupledLoss', scales=scales)
    return loss, weight, student_weight


@pytest.mark.parametrize('data', ['cifar100', 'cub200', 'imagenet'])
def test_every_pair_takes_a_step(data, tmp_path):
    for pair in PAIRS:
        if not pair.endswith(data):
            continue
        with about(pair):
            runner, losses = smoke(CONFIGS / f'sdd/sd-dkd_{pair}.py', tmp_path)
            assert {'student.loss', 'distill.loss_sdd'} <= set(losses)
            assert losses['distill.loss_sdd'] > 0
            loss = runner.model.distiller.distill_losses['loss_sdd']
            assert isinstance(loss, ScaleDecoupledLoss)
            assert (loss.consistent_weight, loss.complementary_weight) == (1,
                                                                           2)
            warm = 1.0 if data == 'imagenet' else 1 / 20
            assert loss.warmup.item() == pytest.approx(warm)
            assert runner.optim_wrapper.clip_grad_kwargs['max_norm'] == 40


def test_every_loss_of_every_run_takes_a_step(tmp_path):
    runner, _ = smoke(CONFIGS / 'sdd/sd-kd_res56_res20_cifar100.py', tmp_path)
    model, batch = runner.model, next(iter(runner.train_dataloader))
    stepped = []
    for pair in PAIRS:
        for name in runs_of(pair).values():
            distiller = parse(name).model.distiller.to_dict()
            if distiller in stepped:
                continue
            stepped.append(distiller)
            with about(name):
                # student and teacher stay: building them is what takes long
                model.distiller = MODELS.build(
                    dict(distiller, _scope_='mmrazor'))
                model.distiller.prepare_from_student(model.student)
                model.distiller.prepare_from_teacher(model.teacher)
                losses = model.train_step(batch, runner.optim_wrapper)
                key, = distiller['distill_losses']
                assert {'student.loss', f'distill.{key}'} <= set(losses)
                assert all(torch.isfinite(one) for one in losses.values())
                assert losses[f'distill.{key}'] > 0
    assert len(stepped) > len(METHODS + RELEASED)


def test_mmpretrains_own_configs_gain_sdd(tmp_path):
    for path in files('mmpretrain'):
        method, recipe = path.stem.split('_', 1)
        with about(path.stem):
            assert len(path.read_text().splitlines()) <= 15
            cfg = parse(f'mmpretrain/{path.stem}')
            base = Config.fromfile(cfg_base(recipe))
            for key in ('train_dataloader', 'param_scheduler', 'train_cfg',
                        'data_preprocessor'):
                assert unscoped(cfg[key]) == unscoped(base[key]), key
            assert unscoped(cfg.optim_wrapper) == unscoped(
                dict(base.optim_wrapper, type='DeferredOptimWrapper'))
            assert unscoped(cfg.default_hooks) == unscoped(
                dict(base.default_hooks, **cfg.sdd_mm_hooks))
            assert unscoped(cfg.model.architecture) == unscoped(base.model)
            loss, weight, student_weight = expected(
                method,
                Config(
                    dict(
                        scales=(1, 2, 4),
                        dkd=dict(beta=2.0, tau=1.0) if 'in1k' in recipe else
                        dict(beta=8.0, tau=4.0))), False)
            assert cfg.model.distiller.to_dict() == dict(
                type='SDDDistiller',
                distill_losses=dict(loss_sdd=dict(loss, loss_weight=weight)))
            assert cfg.model.student_loss_weight == student_weight
            warmed = [hook.get('epochs') for hook in cfg.custom_hooks][2:]
            assert warmed == [20] * (
                method != 'sd-kd' and 'in1k' not in path.stem)
            if method == 'sd-dkd':  # the others differ in the loss alone
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


def cfg_base(recipe):
    import mmpretrain
    root = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    return next(root.glob(f'*/{recipe}.py'))


def test_every_run_of_the_demo_takes_a_step(tmp_path):
    for path in files('demo'):
        with about(path.stem):
            smoke(path, tmp_path)


def test_fast_is_the_plain_run_from_memory(tmp_path):
    for path in files('fast'):
        with about(path.stem):
            check_fast(path, tmp_path)


def check_fast(path, tmp_path):
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


def test_vanilla_trains_the_networks_of_every_pair():
    found = set()
    for pair in PAIRS:
        teacher, student, data = pair.split('_')
        cfg = parse(f'sdd/kd_{pair}')
        for name, model in ((teacher, cfg.model.teacher),
                            (student, cfg.model.architecture)):
            found.add(f'{name}_{data}')
            alone = parse(f'vanilla/{name}_{data}')
            with about(f'{pair}, {name}'):
                model = model.to_dict()
                model.pop('data_preprocessor', None)
                assert alone.model == model
                for key in ('train_dataloader', 'val_dataloader',
                            'data_preprocessor', 'param_scheduler',
                            'train_cfg', 'auto_scale_lr'):
                    assert alone[key] == cfg[key], key
                lr = 0.2 if data == 'imagenet' else 0.05
                if name == student:
                    lr = cfg.optim_wrapper.optimizer.lr
                assert alone.optim_wrapper == dict(
                    type='DeferredOptimWrapper',
                    optimizer=dict(cfg.optim_wrapper.optimizer, lr=lr))
        if data != 'imagenet':
            assert cfg.model.teacher_ckpt == (
                f'work_dirs/{teacher}_{data}/epoch_{cfg.train_cfg.max_epochs}'
                '.pth')
    assert found == {path.stem for path in files('vanilla')}


def test_vanilla_takes_a_step_on_every_data_set(tmp_path):
    """Its networks take theirs as students and teachers of the pairs."""
    for name in ('res8x4_cifar100', 'shuv1_cub200', 'mbv1_imagenet'):
        with about(name):
            _, losses = smoke(CONFIGS / f'vanilla/{name}.py', tmp_path)
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
