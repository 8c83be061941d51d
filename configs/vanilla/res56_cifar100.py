# The teacher of configs/sdd/*_res56_*_cifar100.py
_base_ = [
    '../_base_/models/resnet56_cifar100.py',
    '../_base_/datasets/cifar100_bs64.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py'
]

model = _base_.resnet56
