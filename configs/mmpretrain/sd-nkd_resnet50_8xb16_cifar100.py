_base_ = ['mmpretrain::resnet/resnet50_8xb16_cifar100.py', '../_base_/methods/sd-nkd.py', '../_base_/hooks.py']
custom_imports = dict(imports=['sdd_mm'], allow_failed_imports=False)
model = dict(
    _delete_=True, _scope_='mmrazor', type='FrozenTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb16_cifar100.py'),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_b16x8_cifar100_20210528-67b58a1b.pth',
    **_base_.method)
custom_hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook'), _base_.warmup]
default_hooks = _base_.sdd_mm_hooks
optim_wrapper = dict(type='DeferredOptimWrapper')
