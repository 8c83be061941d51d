# 1,263,080 parameters, 256 x 28 x 28 before pooling
_base_ = './resnet8x4_cifar100.py'

resnet8x4 = dict(backbone=dict(stem='cub'), head=dict(num_classes=200))
