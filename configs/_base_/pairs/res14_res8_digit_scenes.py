# The pair of `make demo`; the teacher comes from configs/demo/
_base_ = [
    '../models/resnet14_digit_scenes.py', '../models/resnet8_digit_scenes.py',
    '../datasets/digit_scenes_bs64.py', '../schedules/digit_scenes_12e.py',
    '../demo_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.resnet8,
    teacher=dict(
        **_base_.resnet14, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/demo/teacher/epoch_6.pth')
custom_hooks = [
    dict(type='FrozenTeacherHook'),
    dict(type='SDDReportHook'),
]
optim_wrapper = dict(clip_grad=dict(max_norm=40))
scales = (1, 2, 4)  # the paper's M
dkd = dict(beta=2.0, tau=4.0)
reviewkd = 5.0  # ours
