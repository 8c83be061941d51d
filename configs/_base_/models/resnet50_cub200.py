# 23,917,832 parameters, 2048 x 14 x 14 before pooling
_base_ = './resnet50_cifar100.py'

resnet50 = dict(backbone=dict(type='CUBResNet'), head=dict(num_classes=200))
