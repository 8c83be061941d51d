_base_ = ['mmpretrain::resnet/resnet50_8xb8_cub.py', '../_base_/methods/sd-kd.py', '../_base_/hooks.py']
custom_imports = dict(imports=['sdd_mm'], allow_failed_imports=False)
model = dict(
    _delete_=True, _scope_='mmrazor', type='FrozenTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb8_cub.py'),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb8_cub_20220307-57840e60.pth',
    **_base_.method)
custom_hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
default_hooks = _base_.sdd_mm_hooks
optim_wrapper = dict(type='DeferredOptimWrapper')
