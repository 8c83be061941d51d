# Copyright (c) sdd_mm contributors. All rights reserved.
"""Configs of the baselines between the small models of toy.py."""


def side(name, **kwargs):
    """A mapping of both networks' records of one recorder."""
    return dict(
        student=dict(recorder=name, from_student=True, **kwargs),
        teacher=dict(recorder=name, from_student=False, **kwargs))


# 8 x 8 is the last map of 32 x 32 images; the teacher is twice as wide
LAYERS = (4, 8, 16), (8, 16, 32)
MAPS = dict(type='StageMaps')
POOLED = dict(type='ModuleOutputs', source='neck.gap')
CHANNELS = dict(zip(('student_channels', 'teacher_channels'), LAYERS))
BASELINES = dict(
    fitnet=dict(
        recorder=MAPS,
        loss=dict(type='HintLoss'),
        connectors=dict(
            hint=dict(
                type='ConvRegressor',
                student_shape=(8, 16, 16),
                teacher_shape=(16, 16, 16))),
        mapping=dict(
            student=dict(
                recorder='features',
                from_student=True,
                data_idx=1,
                connector='hint'),
            teacher=dict(recorder='features', from_student=False,
                         data_idx=1))),
    rkd=dict(recorder=POOLED, loss=dict(type='RelationalLoss')),
    sp=dict(
        recorder=MAPS,
        loss=dict(type='SimilarityLoss'),
        mapping=side('features', data_idx=-1)),
    pkt=dict(recorder=POOLED, loss=dict(type='PKTLoss')),
    crd=dict(
        recorder=POOLED,
        loss=dict(
            type='ContrastiveLoss',
            student_channels=16,
            teacher_channels=32,
            num_data=24,
            num_negatives=10,
            dim=6),
        student_recorders=dict(index=dict(type='ImageIndex')),
        mapping=dict(
            side('features'), index=dict(recorder='index',
                                         from_student=True))),
    semckd=dict(
        recorder=MAPS,
        loss=dict(type='SemanticCalibrationLoss', batch_size=4, **CHANNELS)),
    reviewkd=dict(
        recorder=dict(MAPS, pooled=True),
        teacher_recorder=dict(MAPS, pooled=True, preact=True),
        loss=dict(
            type='ReviewLoss',
            student_channels=(*LAYERS[0], 16),
            teacher_channels=(*LAYERS[1], 32))),
    mgd=dict(
        recorder=MAPS,
        loss=dict(
            type='MaskedGenerationLoss',
            student_channels=16,
            teacher_channels=32,
            loss_weight=7e-5),
        mapping=side('features', data_idx=-1)),
)


def distiller(name, **kwargs):
    """Config of a distiller with one baseline, ``loss_own``."""
    own = dict(BASELINES[name])
    recorder = own['recorder']
    return dict(
        type='SDDDistiller',
        student_recorders=dict(
            own.get('student_recorders', {}), features=recorder),
        teacher_recorders=dict(features=own.get('teacher_recorder', recorder)),
        connectors=own.get('connectors'),
        distill_losses=dict(loss_own=dict(own['loss'], **kwargs)),
        loss_forward_mappings=dict(
            loss_own=own.get('mapping', side('features'))))


KD = dict(type='KDCriterion', tau=4.0)
LOGITS = dict(type='LogitLoss', criterion=KD)


def rotation_terms(inner, rotated=None, **relation):
    """SSKD's losses with what they compare, as released."""
    return dict(
        loss_kd=dict(
            type='ViewLoss', views='normal', loss=inner, loss_weight=0.9),
        loss_rotated=dict(
            type='ViewLoss',
            views='rotated',
            loss=rotated or inner,
            loss_weight=2.7),
        loss_relation=dict(
            type='RotationRelationLoss',
            student_channels=16,
            teacher_channels=32,
            loss_weight=10.,
            **relation))


def rotation_distiller(*args, **kwargs):
    """Config of a distiller for RotationDistill."""
    return dict(
        type='SDDDistiller',
        student_recorders=dict(pooled=POOLED),
        teacher_recorders=dict(pooled=POOLED),
        distill_losses=rotation_terms(*args, **kwargs),
        loss_forward_mappings=dict(
            loss_relation=dict(
                student=dict(recorder='pooled', from_student=True),
                teacher=dict(recorder='pooled', from_student=False))))
