# The teacher of configs/sdd/*_res110_*_cifar100.py
_base_ = [
    '../_base_/models/resnet110_cifar100.py',
    '../_base_/datasets/cifar100_bs64.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py'
]

model = _base_.resnet110
