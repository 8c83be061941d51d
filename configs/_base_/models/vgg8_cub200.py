# 4,016,328 parameters, 512 x 28 x 28 before pooling
_base_ = './vgg8_cifar100.py'

vgg8 = dict(head=dict(num_classes=200))
