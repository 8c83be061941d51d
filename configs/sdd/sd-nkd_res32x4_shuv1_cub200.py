_base_ = [
    '../_base_/pairs/res32x4_shuv1_cub200.py', '../_base_/methods/sd-nkd.py'
]

model = dict(
    student_loss_weight=_base_.student_loss_weight,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
custom_hooks = _base_.custom_hooks + _base_.method_hooks
