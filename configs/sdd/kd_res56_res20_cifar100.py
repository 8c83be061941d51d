_base_ = ['../_base_/pairs/res56_res20_cifar100.py', '../_base_/methods/kd.py']
model = _base_.method
