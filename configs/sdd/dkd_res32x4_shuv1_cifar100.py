_base_ = ['../_base_/pairs/res32x4_shuv1_cifar100.py', '../_base_/methods/dkd.py']
model = _base_.method
model.distiller.distill_losses.loss_dkd.criterion.update(_base_.dkd)
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
