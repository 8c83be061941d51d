_base_ = ['../_base_/pairs/res14_res8_digit_scenes.py', '../_base_/methods/sp.py']
model = _base_.method
