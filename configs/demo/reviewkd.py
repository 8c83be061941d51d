_base_ = ['../_base_/pairs/res14_res8_digit_scenes.py', '../_base_/methods/reviewkd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_review.loss_weight = _base_.reviewkd
custom_hooks = [*_base_.custom_hooks, dict(_base_.warmup, epochs=1)]
