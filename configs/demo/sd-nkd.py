_base_ = [
    '../_base_/pairs/res14_res8_digit_scenes.py', '../_base_/methods/sd-nkd.py'
]

model = dict(
    student_loss_weight=_base_.student_loss_weight,
    distiller=dict(distill_losses=_base_.distill_losses))
optim_wrapper = dict(clip_grad=_base_.clip_grad)
# as long a part of 12 epochs as 20 are of 240
custom_hooks = _base_.custom_hooks + [
    dict(type='DistillWarmupHook', loss='loss_sdd', epochs=1, by_epoch=False)
]
