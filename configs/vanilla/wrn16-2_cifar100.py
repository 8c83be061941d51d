# The student of configs/sdd/*_wrn16-2_cifar100.py
_base_ = [
    '../_base_/models/wrn16-2_cifar100.py',
    '../_base_/datasets/cifar100_bs64.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py'
]

model = _base_.wrn16_2
