# DKD: CE + DKD, warmed up over 20 epochs
distill_losses = dict(
    loss_dkd=dict(
        type='LogitLoss',
        criterion=dict(type='DKDCriterion', alpha=1.0, beta=8.0, tau=4.0),
        loss_weight=1.0))
student_loss_weight = 1.0
clip_grad = dict(max_norm=40)
method_hooks = [
    dict(type='DistillWarmupHook', loss='loss_dkd', epochs=20),
]
