# CRD as in RepDistiller: CE + 0.8 times the contrast with 16384 images
pooled = dict(type='ModuleOutputs', source='neck.gap')
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=dict(
            pooled=pooled, index=dict(type='ImageIndex')),
        teacher_recorders=dict(pooled=pooled),
        distill_losses=dict(
            loss_crd=dict(
                type='ContrastiveLoss',
                num_data=50000,
                num_negatives=16384,
                loss_weight=0.8)),
        loss_forward_mappings=dict(
            loss_crd=dict(
                student=dict(recorder='pooled', from_student=True),
                teacher=dict(recorder='pooled', from_student=False),
                index=dict(recorder='index', from_student=True)))))
labels = dict(type='TrainingLabelsHook')
