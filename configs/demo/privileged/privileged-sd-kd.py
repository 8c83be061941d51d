_base_ = ['../../_base_/pairs/res14_res8_privileged_scenes.py', '../../_base_/methods/sd-kd.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
