_base_ = ['../_base_/pairs/res32x4_shuv1_cifar100.py', '../_base_/methods/reviewkd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_review.loss_weight = _base_.reviewkd
optim_wrapper = dict(clip_grad=None)
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
