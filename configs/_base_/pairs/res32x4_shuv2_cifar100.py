# ResNet32x4 -> ShuffleNetV2; configs/vanilla/ trains the teacher
_base_ = [
    '../models/resnet32x4_cifar100.py', '../models/shufflenet-v2_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.shufflenet_v2,
    teacher=dict(
        **_base_.resnet32x4, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/res32x4_cifar100/epoch_240.pth')
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=40))
scales = (1, 2, 4)  # the paper's M
dkd = dict(beta=8.0, tau=4.0)
reviewkd = 8.0  # ReviewKD's weight: dvlab-research/ReviewKD
# logit standardization: the names of sunshangquan/logit-standardization-KD's logs
kd_ls = dict(tau=2.0, loss_weight=9.0)
dkd_ls = dict(beta=8.0, tau=2.0, loss_weight=9.0)
