# SD-NKD as released: tau 4, gamma = the pair's DKD beta, target kept
distill_losses = dict(
    loss_sdd=dict(
        type='ScaleDecoupledLoss',
        criterion=dict(
            type='NKDCriterion', gamma=8.0, tau=4.0, keep_target=True),
        scales=(1, 2, 4),
        loss_weight=1.0))
student_loss_weight = 1.0
clip_grad = dict(max_norm=40)
method_hooks = [
    dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20),
]
