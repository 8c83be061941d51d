# configs/sdd/ uses OpenMMLab's checkpoint of this network
_base_ = [
    '../_base_/models/resnet50_imagenet.py',
    '../_base_/datasets/imagenet_8xbs64.py',
    '../_base_/schedules/imagenet_100e.py', '../_base_/default_runtime.py'
]

model = _base_.resnet50
