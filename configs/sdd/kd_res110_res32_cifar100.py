_base_ = ['../_base_/pairs/res110_res32_cifar100.py', '../_base_/methods/kd.py']
model = _base_.method
