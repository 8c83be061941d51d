# The student of configs/sdd/*_mbv2_cub200.py
_base_ = [
    '../_base_/models/mobilenet-v2_cub200.py',
    '../_base_/datasets/cub200_bs64_224.py',
    '../_base_/schedules/cifar_240e.py', '../_base_/default_runtime.py'
]

model = _base_.mobilenet_v2
optim_wrapper = dict(optimizer=dict(lr=0.01))
