# 11,689,512 parameters, 512 x 7 x 7 before pooling
resnet18 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=4,
        out_indices=(3, ),
        style='pytorch',
        zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        init_cfg=None,  # torch's default, as released
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
