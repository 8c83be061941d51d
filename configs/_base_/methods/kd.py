# KD: 0.1 CE + 0.9 KD, no warm-up
method = dict(
    student_loss_weight=0.1,
    distiller=dict(
        type='SDDDistiller',
        distill_losses=dict(
            loss_kd=dict(
                type='LogitLoss',
                criterion=dict(type='KDCriterion', tau=4.0),
                loss_weight=0.9))))
