_base_ = [
    '../_base_/pairs/wrn40-2_vgg8_cifar100.py',
    '../_base_/methods/sd-nkd-released.py'
]
# the authors' scripts take {1, 2} here for SD-NKD alone
_base_.distill_losses.loss_sdd.merge(dict(scales=(1, 2)))

model = dict(
    student_loss_weight=_base_.student_loss_weight,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
custom_hooks = _base_.custom_hooks + _base_.method_hooks
