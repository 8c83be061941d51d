_base_ = ['mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py', '../_base_/methods/sd-kd.py', '../_base_/hooks.py']
custom_imports = dict(imports=['sdd_mm'], allow_failed_imports=False)
model = dict(
    _delete_=True, _scope_='mmrazor', type='FrozenTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    **_base_.method)
custom_hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
default_hooks = _base_.sdd_mm_hooks
optim_wrapper = dict(type='DeferredOptimWrapper')
