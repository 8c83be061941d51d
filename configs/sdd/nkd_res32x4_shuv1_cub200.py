_base_ = ['../_base_/pairs/res32x4_shuv1_cub200.py', '../_base_/methods/nkd.py']
model = _base_.method
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
