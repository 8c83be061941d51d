# Copyright (c) sdd_mm contributors. All rights reserved.
"""Between two log lines a training step reads nothing back."""
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from reads import Recorder
from short_run import loader, runner
from torch import cuda
from toy import algorithm, batch, sdd_loss, skip_without_autocast

CRITERIA = ('KDCriterion', 'DKDCriterion', 'NKDCriterion')
HOOKS = [
    dict(type='FrozenTeacherHook'),
    dict(type='SDDReportHook'),
    dict(type='DistillWarmupHook', loss='loss_sdd', epochs=4, by_epoch=False),
]


def distilled(work_dir, criterion='KDCriterion', wrapper=None, **kwargs):
    """A run of six iterations with a log line at every second."""
    return runner(
        work_dir,
        epochs=1,
        model=algorithm(
            distiller=dict(
                type='SDDDistiller',
                distill_losses=dict(loss_sdd=sdd_loss(criterion)))),
        hooks=HOOKS,
        wrapper=wrapper,
        **kwargs)


def reads_between_lines(run):
    """What was read from the first log line to the last, and what ran."""
    recorder = Recorder()
    marks = []

    class Marks(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, *args, **kwargs):
            if self.every_n_inner_iters(batch_idx, 2):
                marks.append((len(recorder.reads), len(recorder.names)))

    run.register_hook(Marks())
    with recorder:
        run.train()
    (reads, names), _, (last_reads, last_names) = marks
    return recorder.reads[reads:last_reads], recorder.names[names:last_names]


@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
@pytest.mark.parametrize('criterion', CRITERIA)
def test_step_reads_nothing_back(tmp_path, monkeypatch, criterion, dtype):
    wrapper = dict(clip_grad=dict(max_norm=1.))
    if dtype is not None:
        skip_without_autocast(torch.bfloat16)
        # it asks for a GPU, bfloat16 runs without one
        monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available',
                            lambda: True)
        wrapper.update(type='DeferredAmpOptimWrapper', dtype=dtype)
    run = distilled(tmp_path, criterion, wrapper)
    reads, names = reads_between_lines(run)
    # two log lines of MMEngine read the memory of a GPU
    assert len(reads) == 2 * cuda.is_available()
    assert names.count('_foreach_norm') + names.count('linalg_vector_norm') > 3
    # the losses, the norm and the share of cells come in one transfer a line
    scalars = {
        'train/student.loss', 'train/distill.loss_sdd', 'train/loss',
        'train/grad_norm', 'train/sdd/complementary'
    }
    assert scalars <= set(run.message_hub.log_scalars)
    if dtype is not None:
        assert torch.bfloat16 == run.optim_wrapper.cast_dtype
        assert not run.optim_wrapper.loss_scaler.is_enabled()


def test_mmengines_own_step_reads(tmp_path):
    run = distilled(tmp_path, ours=False)
    reads, _ = reads_between_lines(run)
    # four iterations of three losses and a norm
    assert len(reads) >= 16 and set(reads) == {'_local_scalar_dense'}


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
@pytest.mark.parametrize('criterion', CRITERIA)
def test_gpu_is_not_waited_for(tmp_path, criterion, dtype):
    waits = []

    class Forbids(Hook):
        """Waiting is an error in the third step, which has no log line."""
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if batch_idx == 2:
                cuda.set_sync_debug_mode('error')

        def after_train_iter(self, runner, batch_idx, *args, **kwargs):
            if batch_idx == 2:
                waits.append(cuda.get_sync_debug_mode())
                cuda.set_sync_debug_mode('default')

    wrapper = dict(clip_grad=dict(max_norm=1.))
    if dtype is not None:
        wrapper.update(type='DeferredAmpOptimWrapper', dtype=dtype)
    run = distilled(
        tmp_path,
        criterion,
        wrapper,
        train_dataloader=dict(loader(), pin_memory=True))
    run.register_hook(Forbids())
    try:
        run.train()
    finally:
        cuda.set_sync_debug_mode('default')
    assert waits == [2]


def test_labels_are_copied_together():
    from mmpretrain.registry import MODELS
    from toy import PREPROCESSOR
    models = [
        MODELS.build(dict(PREPROCESSOR, type=name))
        for name in ('ClsDataPreprocessor', 'AsyncClsDataPreprocessor')
    ]
    for training in (True, False):
        own, ours = (model(batch(), training) for model in models)
        assert torch.equal(own['inputs'], ours['inputs'])
        for mine, other in zip(ours['data_samples'], own['data_samples']):
            assert torch.equal(mine.gt_label, other.gt_label)
    # what stays on this device shows what is copied
    found = models[1].to('meta')(batch(), True)
    assert found['inputs'].is_meta
    assert [s.gt_label.shape for s in found['data_samples']] == [(1, )] * 4
    assert all(s.gt_label.is_meta for s in found['data_samples'])
