_base_ = ['../_base_/pairs/res50_mbv1_imagenet.py', '../_base_/methods/sd-dkd.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
model.distiller.distill_losses.loss_sdd.criterion.update(_base_.dkd)
