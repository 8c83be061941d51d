# The teacher of configs/sdd/*_res32x4_*_cub200.py
_base_ = [
    '../_base_/models/resnet32x4_cub200.py',
    '../_base_/datasets/cub200_bs64_224.py',
    '../_base_/schedules/cifar_240e.py', '../_base_/default_runtime.py'
]

model = _base_.resnet32x4
