# ResNet110 -> ResNet32; the teacher comes from configs/vanilla/
_base_ = [
    '../models/resnet110_cifar100.py', '../models/resnet32_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.resnet32,
    teacher=dict(
        **_base_.resnet110, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/res110_cifar100/epoch_240.pth',
    distiller=dict(type='SDDDistiller'))
