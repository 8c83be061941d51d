_base_ = ['../_base_/pairs/vgg13_vgg8_cub200.py', '../_base_/methods/sd-nkd-released.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
model.distiller.distill_losses.loss_sdd.criterion.update(gamma=_base_.dkd.beta, tau=_base_.dkd.tau)
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
