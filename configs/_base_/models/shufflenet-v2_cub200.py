# 1,461,484 parameters, 1024 x 14 x 14 before pooling
_base_ = './shufflenet-v2_cifar100.py'

shufflenet_v2 = dict(backbone=dict(stem='cub'), head=dict(num_classes=200))
