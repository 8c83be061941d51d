_base_ = './default_runtime.py'

custom_hooks = [
    dict(type='FrozenTeacherHook'),
    dict(type='SDDReportHook'),
]
