# SD-SSKD: SSKD with SD-KD in place of KD, for all views. The paper does not
# define it; this definition is ours
pooled = dict(pooled=dict(type='ModuleOutputs', source='neck.gap'))
method = dict(
    type='RotationDistill',
    student_loss_weight=0.1,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=pooled,
        teacher_recorders=pooled,
        distill_losses=dict(
            loss_kd=dict(
                type='ViewLoss',
                views='normal',
                loss=dict(
                    type='ScaleDecoupledLoss',
                    scales=(1, 2, 4),
                    criterion=dict(type='KDCriterion', tau=4.0)),
                loss_weight=0.9),
            loss_rotated=dict(
                type='ViewLoss',
                views='rotated',
                loss=dict(
                    type='ScaleDecoupledLoss',
                    scales=(1, 2, 4),
                    criterion=dict(type='KDCriterion', tau=4.0)),
                loss_weight=2.7),
            loss_relation=dict(
                type='RotationRelationLoss',
                ratio=0.75,
                tau=0.5,
                loss_weight=10.0)),
        loss_forward_mappings=dict(
            loss_relation=dict(
                student=dict(recorder='pooled', from_student=True),
                teacher=dict(recorder='pooled', from_student=False)))))
# the algorithm crops every view by itself
pipeline = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
