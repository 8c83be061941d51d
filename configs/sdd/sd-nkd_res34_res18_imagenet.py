_base_ = ['../_base_/pairs/res34_res18_imagenet.py', '../_base_/methods/sd-nkd.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
