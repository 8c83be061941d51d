# 1,355,528 parameters, 1024 x 4 x 4 before pooling
shufflenet_v2 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='CIFARShuffleNetV2'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=1024,
        init_cfg=None,  # torch's default, as released
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
