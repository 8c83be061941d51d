# Copyright (c) sdd_mm contributors. All rights reserved.
"""A cached teacher gives the logits of the live one."""
import copy
import itertools

import numpy as np
import pytest
import torch
from baselines import BASELINES, distiller
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import DATASETS, MODELS
from toy import PREPROCESSOR, algorithm, batch, build, classifier, sdd_loss

from sdd_mm import FeatureHead, LocalLogits
from sdd_mm.models.algorithms import TeacherError
from sdd_mm.models.algorithms.teacher import LiveTeacher
from sdd_mm.teacher_cache import TeacherCache, TeacherCacheError
from sdd_mm.teacher_cache.cacheable import request_of

COUNT = itertools.count()
VIEWS = [
    dict(type='RandomCrop', crop_size=32, padding=1),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
]
KD = dict(type='LogitLoss', criterion=dict(type='KDCriterion'))


def scenes(views=VIEWS, **kwargs):
    """Config of scenes with a discrete set of views."""
    config = dict(
        type='DigitScenes',
        split='train',
        num_scenes=24,
        pipeline=[*views, dict(type='PackInputs')])
    return dict(type='InMemoryDataset', dataset=dict(config, **kwargs))


def build_scenes(**kwargs):
    return DATASETS.build(scenes(**kwargs))


def model_of(losses=None, **kwargs):
    """A model with a teacher, the same one whatever the student."""
    if losses is not None:
        kwargs['distiller'] = dict(type='SDDDistiller', distill_losses=losses)
    torch.manual_seed(3)
    model = build(**kwargs)
    model.init_weights()
    torch.manual_seed(3)
    for module in model.teacher.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    model.load_teacher()
    return model.train()


def losses_of(model, data):
    data = model.data_preprocessor(data, training=True)
    return model(**data, mode='loss')


def run(tmp_path, hooks, epochs=3, model=None, **kwargs):
    """Train, and return the losses of all steps."""
    name = f'cache{next(COUNT)}'
    runner = runner_of(tmp_path, name, hooks, epochs, model, **kwargs)
    runner.train()
    history, _ = runner.message_hub.get_scalar('train/loss').data
    return np.array(history)


def runner_of(tmp_path, name, hooks, epochs, model=None, **kwargs):
    return Runner(
        model=model or algorithm(),
        work_dir=str(tmp_path / name),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=scenes(**kwargs),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='batch_or_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        default_scope='mmpretrain',
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=hooks,
        randomness=dict(seed=0),
        experiment_name=name)


def test_cold_warm_and_live_runs_agree(tmp_path):
    hook = dict(type='TeacherCacheHook', cache_dir=str(tmp_path / 'teachers'))
    live = run(tmp_path, [])
    memory = run(tmp_path, [dict(type='TeacherCacheHook')])
    cold = run(tmp_path, [hook])
    warm = run(tmp_path, [hook])
    assert len(live) == 9
    np.testing.assert_array_equal(cold, warm)
    np.testing.assert_array_equal(cold, memory)
    assert not np.array_equal(cold, live)  # rounded to half precision
    np.testing.assert_allclose(cold, live, rtol=1e-3)


def test_the_teacher_runs_once_per_view(tmp_path):
    model, data = model_of(), build_scenes()
    cache = model.teacher_source = TeacherCache(model, data, str(tmp_path))
    runs = []
    model.teacher.backbone.register_forward_hook(
        lambda module, args, output: runs.append(len(args[0])))
    ids, views = np.arange(8), np.arange(8)
    first = losses_of(model, data.batch(ids, views))
    assert runs == [16]  # padded
    views = views.copy()
    views[2] += 1
    losses_of(model, data.batch(ids, views))
    assert runs == [16, 16]
    again = losses_of(model, data.batch(ids, np.arange(8)))
    assert runs == [16, 16]
    assert first['distill.loss_sdd'] == again['distill.loss_sdd']
    assert (cache.requested, cache.forwards) == (24, 9)


def test_logits_do_not_depend_on_the_other_images_of_a_batch():
    """Or a run resumed with an empty cache would see other bits."""
    teacher = classifier(
        backbone=dict(type='mmrazor.WideResNet', depth=10, widen_factor=2),
        data_preprocessor=PREPROCESSOR)
    teacher['head']['in_channels'] = 128
    model, data = model_of(teacher=teacher), build_scenes(num_scenes=34)
    first, second = [TeacherCache(model, data, None, 'float32') for _ in 'ab']
    ids, views = np.arange(34), np.arange(34) % 18
    inputs, samples = first._inputs(ids, views)
    first.record(inputs, samples)
    for part in np.split(ids, [1, 3, 6, 11, 18, 33]):
        second.record(*second._inputs(part, views[part]))
    index = first._index(ids, views)
    rows, found = first.store.read(index)
    others, found_too = second.store.read(index)
    assert found.all() and found_too.all()
    np.testing.assert_array_equal(rows, others)


SDD = dict(
    hierarchical=sdd_loss(),
    without_one=sdd_loss(scales=(2, 4)),
    direct=sdd_loss(pooling='direct', consistency='class', reduction='sum'),
    direct_without_one=sdd_loss(pooling='direct', scales=(2, 4)),
    dkd=sdd_loss('DKDCriterion', scales=(1, 2)),
    nkd=sdd_loss('NKDCriterion', scales=(4, 3)))


@pytest.mark.parametrize('losses', [
    *[dict(loss_sdd=loss) for loss in SDD.values()],
    dict(loss_kd=KD),
    dict(loss_kd=KD, loss_sdd=SDD['hierarchical']),
    dict(loss_kd=KD, loss_sdd=SDD['direct']),
])
def test_losses_and_gradients_of_the_live_teacher(losses):

    def step(model):
        found = losses_of(model, copy.deepcopy(given))
        names = [f'distill.{name}' for name in losses]
        distilled = torch.stack([found[name] for name in names])
        gradients = torch.autograd.grad(distilled.sum(),
                                        list(model.student.parameters()))
        return distilled, torch.cat([one.flatten() for one in gradients])

    model, data = model_of(losses), build_scenes()
    given = data.batch(np.arange(8), np.arange(8))
    live, live_gradient = step(model)
    source = model.teacher_source
    for dtype, tolerance in (('float16', 2e-3), ('float32', 1e-5)):
        model.teacher_source = source
        model.teacher_source = TeacherCache(model, data, dtype=dtype)
        for _ in range(2):  # computed, and read
            distilled, gradient = step(model)
            # a small divergence keeps the error of the logits' rounding
            torch.testing.assert_close(
                distilled, live, rtol=tolerance, atol=2e-6)
            difference = (gradient - live_gradient).norm()
            assert difference <= tolerance * live_gradient.norm()


def test_only_cells_that_the_others_are_averages_of_are_stored():
    data = build_scenes()
    for losses, rows in [(dict(loss_sdd=sdd_loss()), 16),
                         (dict(loss_sdd=sdd_loss(scales=(1, 2))), 4),
                         (dict(loss_sdd=sdd_loss(scales=(2, 4))), 17),
                         (dict(loss_kd=KD), 1),
                         (dict(loss_kd=KD, loss_sdd=sdd_loss()), 17)]:
        cache = TeacherCache(model_of(losses), data)
        assert cache.store.row_shape == (rows, 10)


def test_other_students_and_methods_read_it(tmp_path):
    data = build_scenes()
    cache = TeacherCache(model_of(), data, str(tmp_path))
    cache.fill(batch_size=100)
    assert cache.forwards == 24 * data.num_views
    other = TeacherCache(
        model_of(
            dict(loss_sdd=sdd_loss('NKDCriterion', reduction='sum')),
            architecture=classifier(width=2)), data, str(tmp_path))
    assert other.store.count() == 24 * data.num_views


BGR = dict(PREPROCESSOR, to_rgb=True)
DARK = dict(PREPROCESSOR, mean=[1.0] * 3)


@pytest.mark.parametrize('change', [
    dict(losses=dict(loss_sdd=sdd_loss(scales=(1, 4)))),
    dict(losses=dict(loss_sdd=sdd_loss(pooling='direct'))),
    dict(losses=dict(loss_sdd=sdd_loss(), loss_kd=KD)),
    dict(
        data_preprocessor=BGR,
        teacher=classifier(width=8, data_preprocessor=BGR)),
    dict(
        data_preprocessor=DARK,
        teacher=classifier(width=8, data_preprocessor=DARK)),
    dict(data_preprocessor=DARK, on_normalization_mismatch='convert'),
    dict(teacher_inference=dict(fold_bn=True)),
    dict(weights=True),
    dict(network=True),
    dict(data=dict(seed=1)),
    dict(data=dict(num_scenes=25)),
    dict(data=dict(views=VIEWS[:1])),
    dict(data=dict(views=VIEWS[1:])),
    dict(dtype='float32'),
])
def test_other_teachers_images_and_grids_do_not_read_it(tmp_path, change):
    TeacherCache(model_of(), build_scenes(), str(tmp_path)).fill()
    change = dict(change)
    dtype = change.pop('dtype', 'float16')
    data = build_scenes(**change.pop('data', {}))
    weights = change.pop('weights', False)
    network = change.pop('network', False)
    model = model_of(**change)
    if weights:
        model.teacher.head.fc.bias.data[0] += 1e-3
        model.load_teacher()
    if network:
        model.teacher.backbone.relu_like = torch.nn.SiLU()
        model.load_teacher()
    cache = TeacherCache(model, data, str(tmp_path), dtype=dtype)
    assert cache.store.count() == 0


def test_mixed_precision_runs_share_float32_rows(tmp_path):
    """Autocast of the student does not reach the teacher."""
    data = build_scenes()
    given = data.batch(np.arange(8), np.arange(8))
    found = []
    for name, enabled in (('amp', True), ('plain', False)):
        model = model_of()
        model.teacher_source = TeacherCache(model, data, str(tmp_path / name))
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            losses_of(model, copy.deepcopy(given))
        index = model.teacher_source._index(np.arange(8), np.arange(8))
        found.append(model.teacher_source.store.read(index))
    assert found[0][1].all() and found[1][1].all()
    np.testing.assert_array_equal(found[0][0], found[1][0])


def test_a_folded_teacher_finds_its_rows_again(tmp_path):
    model = model_of(teacher_inference=dict(fold_bn=True))
    data = build_scenes()
    first = TeacherCache(model, data, str(tmp_path))
    first.fill()
    assert TeacherCache(model, data, str(tmp_path)).store.count() == 432


class Fail(Hook):
    """Interrupts a run, once."""

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if not hasattr(self, 'done'):
            self.done = True
            raise KeyboardInterrupt


def test_an_interrupted_run_trains_again(tmp_path):
    name = f'cache{next(COUNT)}'
    runner = runner_of(
        tmp_path, name,
        [dict(type='TeacherCacheHook'), Fail()], 1)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert isinstance(runner.model.teacher_source, TeacherCache)
    runner.train()
    assert isinstance(runner.model.teacher_source, LiveTeacher)


def test_two_hooks_are_refused(tmp_path):
    hook = dict(type='TeacherCacheHook')
    with pytest.raises(TeacherCacheError, match='two TeacherCacheHooks'):
        run(tmp_path, [hook, dict(hook, dtype='float32')])


def test_a_run_that_stops_distilling(tmp_path):
    model = algorithm(student_loss_weight=1.0)
    stop = dict(type='StopDistillHook', stop_epoch=1, _scope_='mmrazor')
    run(tmp_path, [dict(type='TeacherCacheHook'), stop], model=model)


def test_filling_continues_where_it_was_stopped(tmp_path):
    model, data = model_of(), build_scenes()
    first = TeacherCache(model, data, str(tmp_path))
    total = first.store.num_rows
    first._compute(first._inputs([0] * 10, np.arange(10))[0], np.arange(10))
    second = TeacherCache(model, data, str(tmp_path))
    second.fill(batch_size=50)
    assert second.forwards == total - 10
    assert second.store.count() == total


def test_processes_share_the_filling(tmp_path, monkeypatch):
    module = 'sdd_mm.teacher_cache.teacher_cache'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(f'{module}.get_rank', lambda rank=rank: rank)
        cache = TeacherCache(model_of(), build_scenes(), str(tmp_path))
        cache.fill(batch_size=50)
        shares.append(cache.forwards)
    assert shares == [232, 200]  # of blocks of 50, the last one of 32
    assert cache.store.count() == cache.store.num_rows == 432


def test_a_teacher_with_edited_code_is_refused(tmp_path, monkeypatch):
    """The key does not change with the code."""
    model, data = model_of(), build_scenes()
    TeacherCache(model, data, str(tmp_path)).fill()
    TeacherCache(model_of(), data, str(tmp_path))
    relu = torch.nn.ReLU.forward
    monkeypatch.setattr(torch.nn.ReLU, 'forward',
                        lambda self, x: relu(self, x) * 1.5)
    with pytest.raises(TeacherCacheError, match='If you changed'):
        TeacherCache(model_of(), data, str(tmp_path))


def test_every_view_is_the_live_teachers(tmp_path):
    model, data = model_of(), build_scenes()
    cache = TeacherCache(model, data, dtype='float32')
    cache.fill()
    ids, views = np.full(18, 5), np.arange(18)
    inputs, samples = cache._inputs(ids, views)
    live = model.teacher_source.record(inputs)
    assert isinstance(live, FeatureHead)
    cached = cache.record(inputs, samples)
    assert isinstance(cached, LocalLogits)
    torch.testing.assert_close(cached.local_logits(), live.local_logits())
    assert len(torch.unique(cached.local_logits()[0], dim=0)) == 18


def test_converted_images_reach_the_teacher():
    model = model_of(
        data_preprocessor=DARK, on_normalization_mismatch='convert')
    data = build_scenes()
    given = data.batch(np.arange(4), np.arange(4))
    live = losses_of(model, copy.deepcopy(given))
    model.teacher_source = TeacherCache(model, data)
    found = losses_of(model, given)
    torch.testing.assert_close(
        found['distill.loss_sdd'], live['distill.loss_sdd'], rtol=1e-3, atol=0)


def test_region_heads_are_stored_cell_by_cell():
    head = dict(
        type='StackedLinearClsHead',
        num_classes=10,
        in_channels=32,
        mid_channels=[16])
    model = model_of(
        teacher=classifier(width=8, head=head, data_preprocessor=PREPROCESSOR),
        distiller=dict(
            type='SDDDistiller',
            teacher_recorders=dict(feature_head=dict(type='RegionHead')),
            distill_losses=dict(loss_sdd=sdd_loss())))
    data = build_scenes()
    given = data.batch(np.arange(4), np.arange(4))
    live = losses_of(model, copy.deepcopy(given))
    model.teacher_source = TeacherCache(model, data)
    assert model.teacher_source.store.row_shape == (21, 10)
    torch.testing.assert_close(
        losses_of(model, given)['distill.loss_sdd'],
        live['distill.loss_sdd'],
        rtol=1e-3,
        atol=0)


def test_a_copy_of_the_model_runs_the_teacher_itself():
    model, data = model_of(), build_scenes()
    model.teacher_source = TeacherCache(model, data)
    copied = copy.deepcopy(model)
    assert isinstance(copied.teacher_source, LiveTeacher)
    given = data.batch(np.arange(4), np.arange(4))
    torch.testing.assert_close(
        losses_of(copied, copy.deepcopy(given))['distill.loss_sdd'],
        losses_of(model, given)['distill.loss_sdd'],
        rtol=1e-3,
        atol=0)
    assert not any('cache' in name for name in model.state_dict())


def test_its_text_states_its_size():
    cache = TeacherCache(model_of(), build_scenes())
    assert '24 images of 18 views, 16 x 10 float16 logits' in str(cache)
    assert 'in memory' in str(cache)


class Jitter(ClsDataPreprocessor):
    """One that a user wrote."""

    def __init__(self):
        super().__init__(**PREPROCESSOR)


MIXUP = dict(augments=[dict(type='Mixup', alpha=0.2)])


@pytest.mark.parametrize('make, message', [
    (lambda:
     (model_of(), build_scenes().dataset), 'train_dataloader.dataset=dict'),
    (lambda:
     (model_of(architecture=classifier(train_cfg=MIXUP)), build_scenes()),
     'batch augmentations'),
    (lambda:
     (model_of(dict(loss_a=sdd_loss(), loss_b=sdd_loss(scales=(1, 2)))),
      build_scenes()), 'cells of a single grid.*several'),
    (lambda: (MODELS.build(classifier()), build_scenes()),
     'needs a model of type FrozenTeacherDistill'),
    (lambda: (build(), build_scenes()), 'has not been loaded'),
    (lambda: (model_of(data_preprocessor=Jitter()), build_scenes()),
     'is a Jitter, which may change'),
])
def test_refuses_what_could_not_be_exact(make, message):
    model, data = make()
    with pytest.raises(TeacherCacheError, match=message):
        TeacherCache(model, data)


def test_refuses_losses_of_other_records():
    model = model_of(
        distiller=dict(
            type='SDDDistiller',
            student_recorders=dict(
                fc=dict(type='ModuleOutputs', source='head.fc')),
            teacher_recorders=dict(
                fc=dict(type='ModuleOutputs', source='head.fc')),
            distill_losses=dict(
                loss_sdd=sdd_loss(), loss_l2=dict(type='L2Loss')),
            loss_forward_mappings=dict(
                loss_l2=dict(
                    s_feature=dict(recorder='fc', from_student=True),
                    t_feature=dict(recorder='fc', from_student=False)))))
    with pytest.raises(TeacherCacheError, match="'loss_l2' .L2Loss. needs"):
        TeacherCache(model, build_scenes())


def test_refuses_losses_over_features():
    for name in BASELINES:
        model = build(distiller=distiller(name))
        loss = type(model.distiller.distill_losses['loss_own']).__name__
        with pytest.raises(
                TeacherCacheError,
                match=rf"'loss_own' \({loss}\) needs more of the teacher "
                '.* remove the TeacherCacheHook'):
            request_of(model.distiller)


def test_refuses_another_dtype_and_batches_without_ids():
    with pytest.raises(TeacherCacheError, match='one of'):
        TeacherCache(model_of(), build_scenes(), dtype='int8')
    model = model_of()
    model.teacher_source = TeacherCache(model, build_scenes())
    with pytest.raises(TeacherCacheError, match='InMemoryDataset'):
        losses_of(model, batch())


def test_refuses_logits_beyond_half_precision():
    model = model_of()
    model.teacher.head.fc.bias.data.fill_(1e5)
    data = build_scenes()
    cache = TeacherCache(model, data)
    given = cache._inputs([0], [0])
    with pytest.raises(TeacherCacheError, match="dtype='float32'"):
        cache.record(*given)
    assert cache.store.count() == 0
    TeacherCache(model, data, dtype='float32').record(*given)


def test_refuses_more_than_the_memory(monkeypatch):
    monkeypatch.setattr('sdd_mm.teacher_cache.row_store.available_memory',
                        lambda: 1000)
    with pytest.raises(TeacherCacheError, match='cache_dir is None'):
        TeacherCache(model_of(), build_scenes())


def test_240_epochs_run_the_teacher_on_half_of_the_views():
    """162 views per image, of which 240 draws see 125."""
    data = build_scenes(views=[
        dict(type='RandomCrop', crop_size=32, padding=4),
        dict(type='RandomFlip', prob=0.5, direction='horizontal')
    ])
    assert data.num_views == 162
    torch.manual_seed(0)
    seen = np.zeros((len(data), 162), bool)
    indices = list(range(len(data)))
    for _ in range(240):
        sample = data.__getitems__(indices)['data_samples'][0]
        seen[sample.image_ids, sample.view_ids] = True
    assert seen.sum() / (240 * len(data)) <= 0.53


@pytest.mark.parametrize('options', [
    dict(fold_bn=True),
    dict(channels_last=True),
    dict(channels_last=True, fold_bn=True),
    dict(dtype='bfloat16'),
])
def test_faster_teachers_give_the_same_losses(options):
    given = batch(8)
    live = losses_of(model_of(), copy.deepcopy(given))
    model = model_of(teacher_inference=options)
    names = set(model.state_dict())
    tolerance = 5e-2 if 'dtype' in options else 1e-4
    for _ in range(2):
        torch.testing.assert_close(
            losses_of(model, copy.deepcopy(given))['distill.loss_sdd'],
            live['distill.loss_sdd'],
            rtol=tolerance,
            atol=0)
    assert set(model.state_dict()) == names
    assert not any(p.requires_grad for p in model.teacher.parameters())
    norms = [
        m for m in model.teacher.modules()
        if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert bool(norms) == ('fold_bn' not in options)
    model.init_weights()  # a second runner.train() does


@pytest.mark.long
def test_a_compiled_teacher_gives_the_same_loss():
    given = batch(8)
    live = losses_of(model_of(), copy.deepcopy(given))
    model = model_of(teacher_inference=dict(compile=True))
    torch.testing.assert_close(
        losses_of(model, given)['distill.loss_sdd'],
        live['distill.loss_sdd'],
        rtol=1e-4,
        atol=0)


def test_a_faster_teacher_with_other_logits_is_refused():
    model = model_of(teacher_inference=dict(fold_bn=True))
    norm = model.teacher.backbone.conv1, model.teacher.backbone.bn1

    # the batch norm is not the only one that reads this convolution
    norm[0].register_forward_hook(
        lambda module, args, output: setattr(norm[1], 'seen', output))
    norm[1].register_forward_hook(
        lambda module, args, output: output + module.seen)
    with pytest.raises(TeacherError, match='leave out .*inference.fold_bn'):
        losses_of(model, batch(8))


def test_an_unknown_dtype_of_the_teacher_is_refused():
    with pytest.raises(TeacherError, match='teacher_inference.dtype'):
        build(teacher_inference=dict(dtype='int8'))
