# Copyright (c) sdd_mm contributors. All rights reserved.
"""What a baseline cannot train with is found before the run."""
from pathlib import Path

import pytest
from mmengine.config import Config

from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight import check_training, distilling
from sdd_mm.engine.smoke import to_smoke

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
METHODS = ('fitnet', 'rkd', 'sp', 'pkt', 'crd', 'semckd', 'reviewkd', 'mgd')
LOSSES = 'model.distiller.distill_losses'
STUDENT = 'model.distiller.student_recorders'


def demo(method, tmp_path, *changes):
    """A demo config with an untrained teacher, changed."""
    cfg = Config.fromfile(CONFIGS / 'demo' / f'{method}.py')
    cfg.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    cfg.work_dir = str(tmp_path / 'run')
    for change in changes:
        if callable(change):
            change(cfg)
        else:
            cfg.merge_from_dict(change)
    return cfg


def wrapped(**wrapper):

    def change(cfg):
        inner = cfg.train_dataloader.dataset
        if wrapper['type'] == 'ConcatDataset':
            cfg.train_dataloader.dataset = dict(wrapper, datasets=[inner] * 2)
        else:
            cfg.train_dataloader.dataset = dict(wrapper, dataset=inner)

    return change


def without_hook(cfg):
    cfg.custom_hooks = [
        hook for hook in cfg.custom_hooks
        if hook['type'] != 'TrainingLabelsHook'
    ]


def without_loss(cfg):
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='TrainingLabelsHook')]


def without_connector(cfg):
    del cfg.model.distiller['connectors']
    mapping = cfg.model.distiller.loss_forward_mappings.loss_hint
    del mapping.student['connector']


def mixup(cfg):
    cfg.model.architecture.train_cfg = dict(
        augments=dict(type='Mixup', alpha=1.))


# what is changed, and what the message must name: the key, the finding, and
# the remedy
MISTAKES = {
    'unequal numbers of maps': ('reviewkd', {
        f'{STUDENT}.stages.sources': ['backbone.layer1', 'backbone.layer3']
    }, 'student has 3 maps and the teacher has 4.*`sources`.*recorders'),
    'unequal sizes': ('mgd', {
        f'{LOSSES}.loss_mgd.match_sizes': False,
        f'{STUDENT}.map.source': 'backbone.layer3',
    }, f'{LOSSES}.loss_mgd: .*one size.*16, 16.*8, 8.*match_sizes=True'),
    'channels of another network': ('mgd', {
        f'{LOSSES}.loss_mgd.student_channels': 7,
        f'{LOSSES}.loss_mgd.teacher_channels': 9,
    }, f'{LOSSES}.loss_mgd: .*student_channels is 7, .* set it to 32'),
    'no connector': ('fitnet', without_connector,
                     f'{LOSSES}.loss_hint: .*one shape.*16, 16, 16'),
    'a last batch that is smaller': ('semckd', {
        'train_dataloader.drop_last': False
    }, f'{LOSSES}.loss_semckd: .*batches of 64 .*got 28.*drop_last to True'),
    'another batch size': ('semckd', {
        'train_dataloader.batch_size': 32
    }, f'{LOSSES}.loss_semckd: .*batches of 64 .*got 32: set it to '
                           'train_dataloader.batch_size'),
    'repeated images': ('crd', wrapped(type='RepeatDataset', times=2),
                        f'{LOSSES}.loss_crd: .*train_dataloader.dataset is a '
                        'RepeatDataset.*use a single data set'),
    'joined data sets': ('crd', wrapped(type='ConcatDataset'),
                         'train_dataloader.dataset is a ConcatDataset'),
    'folds':
    ('crd', wrapped(type='KFoldDataset', num_splits=3,
                    seed=0), 'train_dataloader.dataset is a KFoldDataset'),
    'no places': ('crd', {
        'train_dataloader.dataset.pipeline':
        [dict(type='PackInputs', meta_keys=('img_shape', ))]
    }, f'{STUDENT}: .*no sample_idx.*train_dataloader.*meta_keys'),
    'too few negatives': ('crd', {
        f'{LOSSES}.loss_crd.num_negatives': 1400
    }, f'{LOSSES}.loss_crd: .*1400 images of other classes.*leaves 1321: set '
                          'its num_negatives to at most 1321'),
    'another number of images': ('crd', {
        f'{LOSSES}.loss_crd.num_data': 50000
    }, f'{LOSSES}.loss_crd: .*50000 training .*1500 labels: set its num_data'),
    'mixed images': ('crd', mixup, f'{LOSSES}.loss_crd: .*Mixup.*augments'),
    'no labels': ('crd', without_hook, f'{LOSSES}.loss_crd .*needs the labels '
                  '.*TrainingLabelsHook.*custom_hooks'),
    'an average of the memory':
    ('crd', lambda cfg: cfg.custom_hooks.
     append(dict(type='EMAHook', update_buffers=True)),
     'EMAHook.update_buffers=True. would average the memory of Contrastive'),
    'labels that nothing needs':
    ('rkd', without_loss, 'custom_hooks: .*found no ContrastiveLoss'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_a_clear_error(name, tmp_path):
    method, change, message = MISTAKES[name]
    with pytest.raises(PreflightError, match=f'(?s){message}') as caught:
        check_training(demo(method, tmp_path, change))
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'run').exists()


def test_the_methods_pass_and_nothing_changes(tmp_path):
    for method in METHODS:
        cfg = demo(method, tmp_path)
        model = check_training(cfg).model
        assert not any('running_mean' in key and value.any()
                       for key, value in model.state_dict().items())
        for manager in (model.distiller.student_recorders,
                        model.distiller.teacher_recorders):
            for recorder in manager.recorders.values():
                assert not recorder.data_buffer
        to_smoke(cfg, 2)
        check_training(cfg)


def test_endless_batches_have_one_size(tmp_path):
    cfg = demo(
        'semckd', tmp_path, {
            'train_dataloader.drop_last': False,
            'train_dataloader.sampler.type': 'InfiniteSampler'
        })
    cfg.pop('train_cfg')
    cfg.pop('param_scheduler')
    cfg.train_cfg = dict(by_epoch=False, max_iters=4)
    check_training(cfg)


def test_many_learned_parameters_are_announced(tmp_path, monkeypatch):
    change = {
        f'{LOSSES}.loss_mgd.teacher_channels': 2400,
        f'{LOSSES}.loss_mgd.student_channels': 32,
    }
    said = []
    monkeypatch.setattr(distilling, 'print_log',
                        lambda text, **kwargs: said.append(text))
    with pytest.raises(PreflightError, match='teacher_channels is 2400'):
        check_training(demo('mgd', tmp_path, change))
    assert f'{LOSSES}.loss_mgd (MaskedGenerationLoss) learns 104 mil' in said[
        0]
    assert '1.2 GiB' in said[0]
