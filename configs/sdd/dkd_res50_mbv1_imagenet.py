_base_ = ['../_base_/pairs/res50_mbv1_imagenet.py', '../_base_/methods/dkd.py']
model = _base_.method
model.distiller.distill_losses.loss_dkd.criterion.update(_base_.dkd)
