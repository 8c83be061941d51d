# VGG13 -> MobileNetV2; configs/vanilla/ trains the teacher
_base_ = [
    '../models/vgg13_cifar100.py', '../models/mobilenet-v2_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.mobilenet_v2,
    teacher=dict(**_base_.vgg13, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/vgg13_cifar100/epoch_240.pth')
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=40))
scales = (1, 2, 4)  # the paper's M
dkd = dict(beta=6.0, tau=4.0)
reviewkd = 5.0  # ReviewKD's weight: ours
# logit standardization: the names of sunshangquan/logit-standardization-KD's logs
kd_ls = dict(tau=3.0, loss_weight=9.0)
dkd_ls = dict(beta=2.0, tau=3.0, loss_weight=9.0)
