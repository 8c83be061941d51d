_base_ = [
    '../_base_/pairs/res50_mbv1_imagenet.py',
    '../_base_/methods/sd-nkd-released.py'
]
_base_.distill_losses.loss_sdd.merge(dict(criterion=dict(gamma=2.0, tau=1.0)))

model = dict(
    student_loss_weight=_base_.student_loss_weight,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
# as released, ImageNet has no warm-up: _base_.method_hooks stay out
