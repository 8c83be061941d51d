# 23,705,252 parameters, 2048 x 4 x 4 before pooling
resnet50 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=50, zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=2048,
        init_cfg=None,  # torch's default, as released
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5)))
