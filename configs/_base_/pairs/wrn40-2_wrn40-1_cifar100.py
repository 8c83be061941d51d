# WRN-40-2 -> WRN-40-1; configs/vanilla/ trains the teacher
_base_ = [
    '../models/wrn40-2_cifar100.py', '../models/wrn40-1_cifar100.py',
    '../datasets/cifar100_bs64.py', '../schedules/cifar_240e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.wrn40_1,
    teacher=dict(**_base_.wrn40_2, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt='work_dirs/wrn40-2_cifar100/epoch_240.pth')
optim_wrapper = dict(clip_grad=dict(max_norm=40))
scales = (1, 2)  # the paper's M
dkd = dict(beta=6.0, tau=4.0)
# logit standardization: the names of sunshangquan/logit-standardization-KD's logs
kd_ls = dict(tau=2.0, loss_weight=9.0)
dkd_ls = dict(beta=2.0, tau=2.0, loss_weight=12.0)
