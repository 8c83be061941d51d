_base_ = [
    '../_base_/pairs/vgg13_vgg8_cifar100.py', '../_base_/methods/sd-kd.py'
]
_base_.distill_losses.loss_sdd.merge(dict(scales=(1, 2)))

model = dict(
    student_loss_weight=_base_.student_loss_weight,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
