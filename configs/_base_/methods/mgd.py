# MGD: CE + 7e-5 times the error of the generated map, 15 % of its channels
# masked. Where sizes differ, the larger map is pooled: that rule is ours
maps = dict(map=dict(type='ModuleInputs', source='neck.gap'))
method = dict(
    student_loss_weight=1.0,
    distiller=dict(
        type='SDDDistiller',
        student_recorders=maps,
        teacher_recorders=maps,
        distill_losses=dict(
            loss_mgd=dict(
                type='MaskedGenerationLoss',
                mask_ratio=0.15,
                match_sizes=True,
                loss_weight=7e-5)),
        loss_forward_mappings=dict(
            loss_mgd=dict(
                student=dict(recorder='map', from_student=True, data_idx=0),
                teacher=dict(
                    recorder='map', from_student=False, data_idx=0)))))
