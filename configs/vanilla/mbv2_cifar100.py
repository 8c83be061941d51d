# The student of configs/sdd/*_mbv2_cifar100.py
_base_ = [
    '../_base_/models/mobilenet-v2_cifar100.py',
    '../_base_/datasets/cifar100_bs64.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py'
]

model = _base_.mobilenet_v2
optim_wrapper = dict(optimizer=dict(lr=0.01))
