_base_ = ['../_base_/pairs/res14_res8_digit_scenes.py', '../_base_/methods/fitnet.py']
model = _base_.method
model.image_size = _base_.image_size
