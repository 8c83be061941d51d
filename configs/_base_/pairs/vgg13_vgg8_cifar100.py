# VGG13 -> VGG8; the teacher comes from configs/vanilla/
_base_ = [
    '../models/vgg13_cifar100.py', '../models/vgg8_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.vgg8,
    teacher=dict(**_base_.vgg13, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/vgg13_cifar100/epoch_240.pth',
    distiller=dict(type='SDDDistiller'))
