# SD-KD: 0.1 CE + 0.9 SDD, no warm-up
method = dict(
    student_loss_weight=0.1,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_sdd=dict(
                type='ScaleDecoupledLoss',
                criterion=dict(type='KDCriterion', tau=4.0),
                scales=(1, 2, 4),
                loss_weight=0.9))))
