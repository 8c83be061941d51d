_base_ = ['../_base_/pairs/res50_mbv1_imagenet.py', '../_base_/methods/kd.py']
_base_.distill_losses.loss_kd.merge(
    dict(criterion=dict(tau=1.0), loss_weight=0.5))

model = dict(
    student_loss_weight=0.5,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
