# FitNet as in RepDistiller: CE + 100 times the error of the second stage
stages = dict(stages=dict(type='StageMaps'))
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=stages,
        teacher_recorders=stages,
        connectors=dict(regressor=dict(type='ConvRegressor')),
        distill_losses=dict(
            loss_hint=dict(type='HintLoss', loss_weight=100.0)),
        loss_forward_mappings=dict(
            loss_hint=dict(
                student=dict(
                    recorder='stages',
                    from_student=True,
                    data_idx=1,
                    connector='regressor'),
                teacher=dict(
                    recorder='stages', from_student=False, data_idx=1)))))
