_base_ = ['../_base_/pairs/wrn40-2_mbv2_cifar100.py', '../_base_/methods/kd.py']
model = _base_.method
