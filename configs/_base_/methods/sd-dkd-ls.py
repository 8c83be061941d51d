# SD-DKD of z-scores: CE + 9 SDD, with a 20-epoch warm-up, as logit
# standardization was released for DKD; its numbers depend on the pair
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_sdd=dict(
                type='ScaleDecoupledLoss',
                criterion=dict(
                    type='DKDCriterion',
                    alpha=1.0,
                    beta=8.0,
                    tau=2.0,
                    standardize=True),
                scales=(1, 2, 4),
                loss_weight=9.0))))
warmup = dict(type='DistillWarmupHook', loss='loss_sdd', epochs=20)
