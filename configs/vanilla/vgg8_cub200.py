# The student of configs/sdd/*_vgg8_cub200.py
_base_ = [
    '../_base_/models/vgg8_cub200.py', '../_base_/datasets/cub200_bs64_224.py',
    '../_base_/schedules/cifar_240e.py', '../_base_/default_runtime.py'
]

model = _base_.vgg8
