_base_ = ['../_base_/pairs/res32x4_mbv2_cifar100.py', '../_base_/methods/sskd-head.py']
model = dict(_base_.method, teacher=_base_.model.teacher, teacher_ckpt=_base_.model.teacher_ckpt, channels=256)
custom_hooks = [dict(type='FrozenTeacherHook')]
optim_wrapper = dict(optimizer=dict(lr=0.05), clip_grad=None)
param_scheduler, train_cfg, train_dataloader = _base_.scheduler, _base_.length, dict(dataset=dict(pipeline=_base_.pipeline))
