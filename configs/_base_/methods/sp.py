# SP as in RepDistiller: CE + 3000 times the difference of the Gram matrices
stages = dict(stages=dict(type='StageMaps'))
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=stages,
        teacher_recorders=stages,
        distill_losses=dict(
            loss_sp=dict(type='SimilarityLoss', loss_weight=3000.0)),
        loss_forward_mappings=dict(
            loss_sp=dict(
                student=dict(
                    recorder='stages', from_student=True, data_idx=-1),
                teacher=dict(
                    recorder='stages', from_student=False, data_idx=-1)))))
