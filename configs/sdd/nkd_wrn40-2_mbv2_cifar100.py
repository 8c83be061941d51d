_base_ = ['../_base_/pairs/wrn40-2_mbv2_cifar100.py', '../_base_/methods/nkd.py']
model = _base_.method
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
