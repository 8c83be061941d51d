_base_ = ['../sdd/sd-kd_res32x4_shuv1_cifar100.py', '../_base_/fast.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='InMemoryDataset',
        dataset=_base_.train_dataloader.dataset),
    **_base_.in_memory)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='InMemoryDataset',
        dataset=dict(_base_.val_dataloader.dataset, test_mode=True)),
    **_base_.in_memory)
model = _base_.fast_model
custom_hooks = [*_base_.custom_hooks, *_base_.fast_hooks]
