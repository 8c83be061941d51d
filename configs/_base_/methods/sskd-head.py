# Phase 1 of SSKD: a teacher's head, 60 epochs, lr divided by 10 after 30 and 45
method = dict(_delete_=True, _scope_='mmrazor', type='RotationHead')
scheduler = dict(
    type='MultiStepLR', by_epoch=True, milestones=[30, 45], gamma=0.1)
length = dict(by_epoch=True, max_epochs=60, val_interval=60)
# the algorithm crops every view by itself
pipeline = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
