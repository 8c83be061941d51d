# SD-NKD with NKD as its own paper defines it
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_sdd=dict(
                type='ScaleDecoupledLoss',
                criterion=dict(type='NKDCriterion', gamma=1.5, tau=1.0),
                scales=(1, 2, 4),
                loss_weight=1.0))))
warmup = dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20)
