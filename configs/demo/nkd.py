_base_ = ['../_base_/pairs/res14_res8_digit_scenes.py', '../_base_/methods/nkd.py']
model = _base_.method
# the same share of 12 epochs as 20 are of 240
custom_hooks = [*_base_.custom_hooks, dict(_base_.warmup, epochs=1, by_epoch=False)]
