# 278,324 parameters, 64 x 8 x 8 before pooling
resnet20 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='CIFARResNet', depth=20),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        init_cfg=None,  # torch's default, as released
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
