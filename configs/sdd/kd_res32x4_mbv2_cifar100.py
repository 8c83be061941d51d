_base_ = ['../_base_/pairs/res32x4_mbv2_cifar100.py', '../_base_/methods/kd.py']
model = _base_.method
