# ResNet56 -> ResNet20; the teacher comes from configs/vanilla/
_base_ = [
    '../models/resnet56_cifar100.py', '../models/resnet20_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.resnet20,
    teacher=dict(
        **_base_.resnet56, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/res56_cifar100/epoch_240.pth',
    distiller=dict(type='SDDDistiller'))
