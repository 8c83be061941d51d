# A teacher that sees depth; it comes from configs/demo/privileged/
_base_ = [
    '../models/resnet14_digit_scenes.py', '../models/resnet8_digit_scenes.py',
    '../datasets/privileged_scenes_bs64.py',
    '../schedules/digit_scenes_12e.py', '../demo_runtime.py'
]
_base_.resnet14.backbone.in_channels = 1
model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.resnet8,
    teacher=dict(
        **_base_.resnet14, data_preprocessor=_base_.depth_preprocessor),
    teacher_ckpt='work_dirs/privileged-teacher/epoch_6.pth')
data_preprocessor = dict(type='PairedDataPreprocessor')
both = dict(view='both', pipeline=[dict(type='PackPairedInputs')])
train_dataloader = val_dataloader = test_dataloader = dict(dataset=both)
custom_hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
optim_wrapper = dict(clip_grad=dict(max_norm=40))
scales = (1, 2, 4)  # the paper's M
dkd = dict(beta=2.0, tau=4.0)
train_cfg = dict(max_epochs=24)
param_scheduler = dict(total_steps=24)
