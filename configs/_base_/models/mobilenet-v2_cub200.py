# 942,856 parameters, 1280 x 7 x 7 before pooling
_base_ = './mobilenet-v2_cifar100.py'

mobilenet_v2 = dict(backbone=dict(stem='cub'), head=dict(num_classes=200))
