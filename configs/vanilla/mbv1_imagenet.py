# The student of configs/sdd/*_mbv1_imagenet.py
_base_ = [
    '../_base_/models/mobilenet-v1_imagenet.py',
    '../_base_/datasets/imagenet_8xbs64.py',
    '../_base_/schedules/imagenet_100e.py', '../_base_/default_runtime.py'
]

model = _base_.mobilenet_v1
