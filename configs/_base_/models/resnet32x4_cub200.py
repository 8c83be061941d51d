# 7,463,400 parameters, 256 x 28 x 28 before pooling
_base_ = './resnet32x4_cifar100.py'

resnet32x4 = dict(backbone=dict(stem='cub'), head=dict(num_classes=200))
