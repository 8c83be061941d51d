# NKD as its own paper defines it: the target class is dropped
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_nkd=dict(
                type='LogitLoss',
                criterion=dict(type='NKDCriterion', gamma=1.5, tau=1.0),
                loss_weight=1.0))))
warmup = dict(type='DistillWarmupHook', loss='loss_nkd', epochs=20)
