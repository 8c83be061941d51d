# The student of configs/sdd/*_shuv1_cifar100.py
_base_ = [
    '../_base_/models/shufflenet-v1_cifar100.py',
    '../_base_/datasets/cifar100_bs64.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py'
]

model = _base_.shufflenet_v1
optim_wrapper = dict(optimizer=dict(lr=0.01))
