# SD-NKD as released: tau 4, gamma = the pair's DKD beta, target kept
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_sdd=dict(
                type='ScaleDecoupledLoss',
                criterion=dict(
                    type='NKDCriterion', gamma=8.0, tau=4.0, keep_target=True),
                scales=(1, 2, 4),
                loss_weight=1.0))))
warmup = dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20)
