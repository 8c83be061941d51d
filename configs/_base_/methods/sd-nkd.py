# SD-NKD with NKD as its own paper has it
distill_losses = dict(
    loss_sdd=dict(
        type='ScaleDecoupledLoss',
        criterion=dict(type='NKDCriterion', gamma=1.5, tau=1.0),
        scales=(1, 2, 4),
        loss_weight=1.0))
student_loss_weight = 1.0
clip_grad = dict(max_norm=40)
method_hooks = [
    dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20),
]
