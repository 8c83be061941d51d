_base_ = ['../_base_/pairs/wrn40-2_mbv2_cifar100.py', '../_base_/methods/sd-dkd-ls.py']
model = _base_.method
model.distiller.distill_losses.loss_sdd.update(scales=_base_.scales, loss_weight=_base_.dkd_ls.pop('loss_weight'))
model.distiller.distill_losses.loss_sdd.criterion.update(_base_.dkd_ls)
custom_hooks = [*_base_.custom_hooks, _base_.warmup]
