# 25,557,032 parameters, 2048 x 7 x 7 before pooling
resnet50 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(3, ),
        style='pytorch',
        zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        init_cfg=None,  # torch's default, as released
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
