_base_ = ['../sdd/sd-kd_res32x4_shuv1_cub200.py', '../_base_/fast.py']

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
# no teacher cache: 240 epochs see a tenth of the 2,178 views per image
model = _base_.fast_model
