_base_ = ['../_base_/pairs/res32x4_mbv2_cub200.py', '../_base_/methods/sd-dkd.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
model.distiller.distill_losses.loss_sdd.criterion.update(_base_.dkd)
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
