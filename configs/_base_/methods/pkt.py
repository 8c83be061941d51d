# PKT as in RepDistiller: CE + 30000 times the divergence of the similarities
pooled = dict(pooled=dict(type='ModuleOutputs', source='neck.gap'))
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=pooled,
        teacher_recorders=pooled,
        distill_losses=dict(
            loss_pkt=dict(type='PKTLoss', loss_weight=30000.0)),
        loss_forward_mappings=dict(
            loss_pkt=dict(
                student=dict(recorder='pooled', from_student=True),
                teacher=dict(recorder='pooled', from_student=False)))))
