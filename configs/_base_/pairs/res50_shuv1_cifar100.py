# ResNet50 -> ShuffleNetV1; the teacher comes from configs/vanilla/
_base_ = [
    '../models/resnet50_cifar100.py', '../models/shufflenet-v1_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.shufflenet_v1,
    teacher=dict(
        **_base_.resnet50, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/res50_cifar100/epoch_240.pth',
    distiller=dict(type='SDDDistiller'))
optim_wrapper = dict(optimizer=dict(lr=0.01))
