# Copyright (c) sdd_mm contributors. All rights reserved.
"""A run of 20 steps, for test_distributed.py.

    python tests/helpers/ranks.py PROCESSES OUT [MODE]

The processes are those of torchrun, forked once everything is imported.

MODE: one rank fails (fail), gets SIGTERM (signal) or a loss that is NaN (nan);
or batch norm is synchronized, on GPUs (sync).
"""
import os
import signal
import sys
import traceback
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[:3])
import sdd_mm  # noqa: E402,F401  isort: skip
import torch  # noqa: E402
import toy  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.dist import get_dist_info  # noqa: E402
from mmengine.evaluator import BaseMetric  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import METRICS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from torch.distributed.launcher.api import LaunchConfig  # noqa: E402
from torch.distributed.launcher.api import elastic_launch  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

CRITERIA = ('KDCriterion', 'DKDCriterion', 'NKDCriterion')
BATCH, STEPS, VALIDATED = 8, 20, 21


@METRICS.register_module(force=True)
class Counted(BaseMetric):
    """How many samples there were, and whether each came once."""

    def process(self, data_batch, data_samples):
        self.results += [int(s.get('sample_idx')) for s in data_samples]

    def compute_metrics(self, results):
        return dict(samples=len(results), distinct=len(set(results)))


class Troubled(Hook):

    def __init__(self, trouble):
        self.trouble = trouble

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            if self.trouble == 'fail':
                raise ZeroDivisionError('this rank fails')
            if self.trouble == 'nan':
                runner.model.module.student_loss_weight = float('nan')
                return
            os.kill(os.getpid(), signal.SIGTERM)


def loader(split, num_scenes, batch_size):
    return dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=dict(
            type='DigitScenes',
            split=split,
            num_scenes=num_scenes,
            pipeline=[dict(type='PackInputs')]),
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
        collate_fn=dict(type='default_collate'))


def config(work_dir, criterion, world_size, sync=False):
    model = toy.algorithm(
        student_loss_weight=1.0,
        distiller=dict(
            type='SDDDistiller',
            distill_losses=dict(loss_sdd=toy.sdd_loss(criterion))))
    if not sync:  # batch norm would see other batches
        model['architecture']['backbone']['norm_cfg'] = dict(
            type='GN', num_groups=2)
    cfg = dict(
        model=model,
        work_dir=str(work_dir),
        experiment_name=f'{criterion}_{world_size}',
        launcher='pytorch' if world_size > 1 else 'none',
        sync_bn='torch' if sync else None,
        train_dataloader=loader('train', 4 * BATCH, BATCH // world_size),
        val_dataloader=loader('test', VALIDATED, 4),
        val_evaluator=dict(type='Counted'),
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=STEPS * BATCH // 32),
        optim_wrapper=dict(
            type='DeferredOptimWrapper',
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        default_hooks=dict(
            scalars=dict(type='DeferredScalarsHook'),
            finite_loss=dict(type='FiniteLossHook'),
            exact_resume=dict(type='ExactResumeHook')),
        custom_hooks=[dict(type='FrozenTeacherHook')],
        default_scope='mmpretrain',
        randomness=dict(seed=3))
    if not sync:
        cfg.update(
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False))
    return cfg


def train(work_dir, criterion, world_size, trouble):
    """The trained student, and what validation counted."""
    cfg = config(work_dir, criterion, world_size, trouble == 'sync')
    runner = Runner.from_cfg(Config(cfg, format_python_code=False))
    if trouble in ('fail', 'signal', 'nan') and get_dist_info()[0] == 1:
        runner.register_hook(Troubled(trouble))
    model = runner.model
    if world_size > 1:
        assert isinstance(model, DistributedDataParallel)
        assert not model.find_unused_parameters
        model = model.module
        assert not any(
            isinstance(module, DistributedDataParallel)
            for module in model.modules())
    runner.train()
    assert runner.iter == STEPS
    counted = {
        name: runner.message_hub.get_scalar(f'val/{name}').current()
        for name in ('samples', 'distinct')
    }
    return model.student.state_dict(), counted


def launch(function):
    """Call a function in processes of torchrun, as the command line says."""
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=int(sys.argv[1]),
        run_id='ranks',
        rdzv_backend='c10d',
        rdzv_endpoint='localhost:0',  # a port that is free
        max_restarts=0,
        start_method='fork')

    def run(*args):
        try:
            function(*args)
        except BaseException:
            traceback.print_exc()
            raise

    elastic_launch(settings, run)(*sys.argv[2:])


def main(out, trouble=None):
    out = Path(out)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    world_size = int(os.environ['WORLD_SIZE'])
    found = {
        criterion: train(out, criterion, world_size, trouble)
        for criterion in CRITERIA
    }
    if get_dist_info()[0] == 0:
        torch.save(found, out / 'found.pth')


if __name__ == '__main__':
    launch(main)
