_base_ = ['../_base_/pairs/res50_mbv2_cifar100.py', '../_base_/methods/nkd-released.py']
model = _base_.method
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
