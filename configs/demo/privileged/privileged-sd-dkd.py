_base_ = ['../../_base_/pairs/res14_res8_privileged_scenes.py', '../../_base_/methods/sd-dkd.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
model.distiller.distill_losses.loss_sdd.criterion.update(_base_.dkd)
# the same share of 12 epochs as 20 are of 240
custom_hooks = [*_base_.custom_hooks, dict(_base_.warmup, epochs=1, by_epoch=False)]
