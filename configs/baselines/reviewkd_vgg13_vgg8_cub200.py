_base_ = ['../_base_/pairs/vgg13_vgg8_cub200.py', '../_base_/methods/reviewkd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_review.loss_weight = _base_.reviewkd
optim_wrapper = dict(clip_grad=None)
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
