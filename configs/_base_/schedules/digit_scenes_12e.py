# One-cycle SGD; an epoch takes a second on two CPU cores
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    optimizer=dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(
    type='OneCycleLR', eta_max=0.2, total_steps=12, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()
