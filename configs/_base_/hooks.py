# Beside MMEngine's own hooks; configs over other runtimes merge them
sdd_mm_hooks = dict(
    scalars=dict(type='DeferredScalarsHook'),
    labels=dict(type='LabelCheckHook'),
    finite_loss=dict(type='FiniteLossHook'),
    exact_resume=dict(type='ExactResumeHook'))
