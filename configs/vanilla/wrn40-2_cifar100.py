# The teacher of configs/sdd/*_wrn40-2_*_cifar100.py
_base_ = [
    '../_base_/models/wrn40-2_cifar100.py',
    '../_base_/datasets/cifar100_bs64.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py'
]

model = _base_.wrn40_2
