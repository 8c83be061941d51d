# Digit scenes: methods, Table 7's M and Table 6's cells, on two CPU cores
teacher = 'configs/demo/teacher.py'
seeds = [0, 1, 2, 3, 4]

_loss = 'model.distiller.distill_losses.loss_sdd'
rows = {
    'student alone':
    dict(config='configs/demo/student.py'),
    'KD':
    dict(config='configs/demo/kd.py', panel='KD'),
    'SD-KD, M = {1, 2, 4}':
    dict(
        config='configs/demo/sd-kd.py',
        panel=['KD', 'SD-KD, scales', 'SD-KD, cells']),
    'DKD':
    dict(config='configs/demo/dkd.py', panel='DKD'),
    'SD-DKD, M = {1, 2, 4}':
    dict(config='configs/demo/sd-dkd.py', panel='DKD'),
    'NKD':
    dict(config='configs/demo/nkd.py', panel='NKD'),
    'SD-NKD, M = {1, 2, 4}':
    dict(config='configs/demo/sd-nkd.py', panel='NKD'),
    # the best weights of each method in demo-weights.py; those of SD-NKD are
    # the released ones
    'KD, 0.1 CE + 4 KD':
    dict(
        config='configs/demo/kd.py',
        options={'model.distiller.distill_losses.loss_kd.loss_weight': 4.0},
        panel='KD'),
    'SD-KD, 1 CE + 0.9 SD-KD':
    dict(
        config='configs/demo/sd-kd.py',
        options={'model.student_loss_weight': 1.0},
        panel='KD'),
    'DKD, 1 CE + 0.5 DKD':
    dict(
        config='configs/demo/dkd.py',
        options={'model.distiller.distill_losses.loss_dkd.loss_weight': 0.5},
        panel='DKD'),
    'SD-DKD, 1 CE + 2 SD-DKD':
    dict(
        config='configs/demo/sd-dkd.py',
        options={f'{_loss}.loss_weight': 2.0},
        panel='DKD'),
    'NKD, 1 CE + 2 NKD':
    dict(
        config='configs/demo/nkd.py',
        options={'model.distiller.distill_losses.loss_nkd.loss_weight': 2.0},
        panel='NKD'),
    'SD-KD, M = {1, 2}':
    dict(
        config='configs/demo/sd-kd.py',
        options={f'{_loss}.scales': (1, 2)},
        panel='SD-KD, scales'),
    'SD-KD, M = {1, 4}':
    dict(
        config='configs/demo/sd-kd.py',
        options={f'{_loss}.scales': (1, 4)},
        panel='SD-KD, scales'),
    'SD-KD, consistent cells only':
    dict(
        config='configs/demo/sd-kd.py',
        options={f'{_loss}.complementary_weight': 0.0},
        panel='SD-KD, cells'),
    'SD-KD, complementary cells only':
    dict(
        config='configs/demo/sd-kd.py',
        options={f'{_loss}.consistent_weight': 0.0},
        panel='SD-KD, cells'),
}
notes = [
    'A ResNet-14 teaches a ResNet-8 on scenes of the handwritten digits that '
    'come with scikit-learn: 1,500 to train, 1,000 of other digits to test, '
    '12 epochs. No published number compares with them.'
]
