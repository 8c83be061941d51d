# ResNet-50 (76.55, OpenMMLab) -> MobileNetV1
_base_ = [
    '../models/resnet50_imagenet.py', '../models/mobilenet-v1_imagenet.py',
    '../datasets/imagenet_8xbs64.py', '../schedules/imagenet_100e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.mobilenet_v1,
    teacher=dict(
        **_base_.resnet50, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt=('https://download.openmmlab.com/mmclassification/v0/resnet/'
                  'resnet50_8xb32_in1k_20210831-ea4938fc.pth'))
# as released, runs on ImageNet have no warm-up
optim_wrapper = dict(clip_grad=dict(max_norm=40))
scales = (1, 2, 4)  # the paper's M
dkd = dict(beta=2.0, tau=1.0)
