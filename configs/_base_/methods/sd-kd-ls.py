# SD-KD of z-scores: 0.1 CE + 9 SDD, as logit standardization was released for
# KD; its weight and temperature depend on the pair
method = dict(
    student_loss_weight=0.1,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_sdd=dict(
                type='ScaleDecoupledLoss',
                criterion=dict(type='KDCriterion', tau=2.0, standardize=True),
                scales=(1, 2, 4),
                loss_weight=9.0))))
