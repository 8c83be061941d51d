# What SSKD and SD-SSKD share: four views, and their relations
pooled = dict(pooled=dict(type='ModuleOutputs', source='neck.gap'))
method = dict(
    type='RotationDistill',
    student_loss_weight=0.1,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=pooled,
        teacher_recorders=pooled,
        distill_losses=dict(
            loss_kd=dict(type='ViewLoss', views='normal', loss_weight=0.9),
            loss_rotated=dict(
                type='ViewLoss', views='rotated', loss_weight=2.7),
            loss_relation=dict(
                type='RotationRelationLoss', ratio=0.75, loss_weight=10.0)),
        loss_forward_mappings=dict(
            loss_relation=dict(
                student=dict(recorder='pooled', from_student=True),
                teacher=dict(recorder='pooled', from_student=False)))))
# the algorithm crops every view by itself
flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
pipeline = [flip, dict(type='PackInputs')]
