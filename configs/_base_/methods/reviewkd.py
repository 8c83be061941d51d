# ReviewKD: CE + the pair's weight times the error of the fused stages, with a
# 20-epoch warm-up
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=dict(stages=dict(type='StageMaps', pooled=True)),
        teacher_recorders=dict(
            stages=dict(type='StageMaps', pooled=True, preact=True)),
        distill_losses=dict(loss_review=dict(type='ReviewLoss')),
        loss_forward_mappings=dict(
            loss_review=dict(
                student=dict(recorder='stages', from_student=True),
                teacher=dict(recorder='stages', from_student=False)))))
warmup = dict(type='DistillWarmupHook', loss='loss_review', epochs=20)
