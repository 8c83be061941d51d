# 1,048,814 parameters, 960 x 14 x 14 before pooling
_base_ = './shufflenet-v1_cifar100.py'

shufflenet_v1 = dict(backbone=dict(stem='cub'), head=dict(num_classes=200))
