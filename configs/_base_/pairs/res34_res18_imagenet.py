# ResNet-34 (73.62, OpenMMLab) -> ResNet-18
_base_ = [
    '../models/resnet34_imagenet.py', '../models/resnet18_imagenet.py',
    '../datasets/imagenet_8xbs64.py', '../schedules/imagenet_100e.py',
    '../distill_runtime.py'
]

model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.resnet18,
    teacher=dict(
        **_base_.resnet34, data_preprocessor=_base_.data_preprocessor),
    teacher_ckpt=('https://download.openmmlab.com/mmclassification/v0/resnet/'
                  'resnet34_8xb32_in1k_20210831-f257d4e6.pth'))
# as released, runs on ImageNet have no warm-up
optim_wrapper = dict(clip_grad=dict(max_norm=40))
scales = (1, 2)  # the paper's M
dkd = dict(beta=0.5, tau=1.0)
