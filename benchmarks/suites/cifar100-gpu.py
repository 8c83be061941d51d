# CIFAR-100 in minutes on one GPU: a large batch, one cycle of the learning
# rate, bfloat16, images in GPU memory, channels last
_base_ = [
    '../../configs/_base_/datasets/cifar100_bs64.py',
    '../../configs/_base_/fast.py'
]


def _schedule(epochs):
    """Up to 8 x the paper's rate of 64 images, and down to nothing."""
    return {
        'train_cfg.max_epochs':
        epochs,
        # the last one is validated, and few others
        'train_cfg.val_interval':
        5,
        'param_scheduler':
        dict(
            _delete_=True,
            type='OneCycleLR',
            eta_max=0.4,
            total_steps=epochs,
            by_epoch=True,
            convert_to_iter_based=True)
    }


def _loader(name, dataset):
    found = {
        f'{name}.{key}': _base_.in_memory[key]
        for key in _base_.in_memory
    }
    found[f'{name}.batch_size'] = 512
    found[f'{name}.dataset'] = dict(
        _delete_=True, type='InMemoryDataset', dataset=dataset)
    return found


_test = dict(_base_.val_dataloader.dataset, verify='content', test_mode=True)
options = {
    **_loader('train_dataloader',
              dict(_base_.train_dataloader.dataset, verify='content')),
    **_loader('val_dataloader', _test),
    'optim_wrapper.type':
    'DeferredAmpOptimWrapper',
    'optim_wrapper.dtype':
    'bfloat16',
    'optim_wrapper.optimizer.nesterov':
    True,
    'auto_scale_lr.base_batch_size':
    512,
}
teacher = 'configs/vanilla/res32x4_cifar100.py'
_alone = {'custom_hooks': [dict(type='ChannelsLastHook')]}
teacher_options = {**_schedule(30), **_alone}
seeds = [0, 1, 2]
rows = {
    'student alone':
    dict(
        config='configs/vanilla/res8x4_cifar100.py',
        options={
            **_schedule(20),
            **_alone
        })
}
for _title, _method in (('KD', 'kd'), ('SD-KD', 'sd-kd'), ('DKD', 'dkd'),
                        ('SD-DKD', 'sd-dkd')):
    _options = _schedule(20)
    for _key in _base_.fast_model:
        _options[f'model.{_key}'] = _base_.fast_model[_key]
    if 'dkd' in _method:  # as long a part of 20 epochs as 20 of 240
        _options['custom_hooks.2.epochs'] = 2
    rows[_title] = dict(
        config=f'configs/sdd/{_method}_res32x4_res8x4_cifar100.py',
        options=_options,
        panel='DKD' if 'dkd' in _method else 'KD')
notes = [
    'CIFAR-100, one cycle of the learning rate up to 0.4, batches of 512, '
    'bfloat16: a ResNet32x4 of 30 epochs teaches a ResNet8x4 for 20. No '
    'published number compares with it.'
]
