# 9,513,480 parameters, 512 x 28 x 28 before pooling
_base_ = './vgg13_cifar100.py'

vgg13 = dict(head=dict(num_classes=200))
