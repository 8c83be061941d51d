# RKD as in RepDistiller: CE + 25 distances + 50 angles of the pooled features
pooled = dict(pooled=dict(type='ModuleOutputs', source='neck.gap'))
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=pooled,
        teacher_recorders=pooled,
        distill_losses=dict(
            loss_rkd=dict(type='RelationalLoss', loss_weight=1.0)),
        loss_forward_mappings=dict(
            loss_rkd=dict(
                student=dict(recorder='pooled', from_student=True),
                teacher=dict(recorder='pooled', from_student=False)))))
