_base_ = [
    '../_base_/pairs/res110_res32_cifar100.py', '../_base_/methods/kd.py'
]

model = dict(
    student_loss_weight=_base_.student_loss_weight,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
