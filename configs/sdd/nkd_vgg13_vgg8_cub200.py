_base_ = ['../_base_/pairs/vgg13_vgg8_cub200.py', '../_base_/methods/nkd.py']
model = _base_.method
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
