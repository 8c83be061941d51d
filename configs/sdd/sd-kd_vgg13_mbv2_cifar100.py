_base_ = ['../_base_/pairs/vgg13_mbv2_cifar100.py', '../_base_/methods/sd-kd.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales)
