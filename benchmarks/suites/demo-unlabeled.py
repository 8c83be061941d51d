# What scenes without labels add: 300 with labels, 1,200 without
_base_ = '../../configs/_base_/datasets/digit_scenes_bs64.py'

_labeled = dict(_base_.train_dataloader.dataset, num_scenes=300)
_unlabeled = dict(
    _base_.train_dataloader.dataset, num_scenes=1200, seed=1, with_label=False)


def _data(dataset, epochs):
    """About 290 steps, whatever the number of scenes."""
    return {
        'train_dataloader.dataset': dict(_delete_=True, **dataset),
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': epochs // 12,
        'param_scheduler.total_steps': epochs
    }


_few = _data(_labeled, 60)
_more = _data(dict(type='ConcatDataset', datasets=[_labeled, _unlabeled]), 12)
_more['model.allow_unlabeled'] = True
_all = _data(
    dict(
        type='ConcatDataset',
        datasets=[
            _labeled,
            dict(_base_.train_dataloader.dataset, num_scenes=1200, seed=1)
        ]), 12)
_loss = 'model.distiller.distill_losses.loss_sdd'
_class = {f'{_loss}.consistency': 'class'}

teacher = 'configs/demo/teacher.py'
seeds = [0, 1, 2, 3, 4]
rows = {
    'student alone, 300 labels':
    dict(config='configs/demo/student.py', options=_few),
    'KD, 300 labels':
    dict(config='configs/demo/kd.py', options=_few, panel='KD'),
    'KD, and 1,200 without':
    dict(config='configs/demo/kd.py', options=_more, panel='KD'),
    'KD, 1,500 labels':
    dict(config='configs/demo/kd.py', options=_all, panel='KD'),
    'SD-KD, 300 labels':
    dict(
        config='configs/demo/sd-kd.py',
        options=dict(_few, **_class),
        panel='SD-KD'),
    'SD-KD, and 1,200 without':
    dict(
        config='configs/demo/sd-kd.py',
        options=dict(_more, **_class),
        panel='SD-KD'),
    'SD-KD, 1,500 labels':
    dict(
        config='configs/demo/sd-kd.py',
        options=dict(_all, **_class),
        panel='SD-KD'),
}
notes = [
    'All runs take about 290 steps of 64 scenes: 60 epochs of 300 scenes, or '
    '12 of 1,500. SD-KD has consistency=\'class\', which needs no label.'
]
