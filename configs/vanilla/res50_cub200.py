# The teacher of configs/sdd/*_res50_*_cub200.py
_base_ = [
    '../_base_/models/resnet50_cub200.py',
    '../_base_/datasets/cub200_bs64_224.py',
    '../_base_/schedules/cifar_240e.py', '../_base_/default_runtime.py'
]

model = _base_.resnet50
