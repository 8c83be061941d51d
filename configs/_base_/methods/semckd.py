# SemCKD: CE + KD + 400 times the error over all pairs of stages
stages = dict(stages=dict(type='StageMaps'))
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=stages,
        teacher_recorders=stages,
        distill_losses=dict(
            loss_kd=dict(
                type='LogitLoss',
                criterion=dict(type='KDCriterion', tau=4.0),
                loss_weight=1.0),
            loss_semckd=dict(
                type='SemanticCalibrationLoss',
                batch_size=64,
                loss_weight=400.0)),
        loss_forward_mappings=dict(
            loss_semckd=dict(
                student=dict(recorder='stages', from_student=True),
                teacher=dict(recorder='stages', from_student=False)))))
