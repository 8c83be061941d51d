# VGG13 -> VGG8; configs/vanilla/ trains the teacher
_base_ = [
    '../models/vgg13_cub200.py', '../models/vgg8_cub200.py',
    '../datasets/cub200_bs64_224.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.vgg8,
    teacher=dict(**_base_.vgg13, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/vgg13_cub200/epoch_240.pth')
optim_wrapper = dict(clip_grad=dict(max_norm=40))
scales = (1, 2, 4)  # the paper's M
dkd = dict(beta=6.0, tau=4.0)
reviewkd = 5.0  # ReviewKD's weight: the authors' yaml
