_base_ = ['../_base_/pairs/res50_shuv1_cifar100.py', '../_base_/methods/nkd.py']
model = _base_.method
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
