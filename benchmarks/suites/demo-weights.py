# Digit scenes: which weights suit each method, chosen on digits held out of
# training. Its best ones are rows of demo.py, which tests them.
teacher = 'configs/demo/teacher.py'
seeds = [0]
options = {
    'train_dataloader.dataset.split': 'fit',
    'val_dataloader.dataset.split': 'held_out',
    'test_dataloader.dataset.split': 'held_out',
}
rows = {}
for _method, _loss, _weights in (
    ('kd', 'loss_kd', (0.9, 2, 4, 8)),
    ('sd-kd', 'loss_sdd', (0.9, 2, 4, 8)),
    ('dkd', 'loss_dkd', (0.5, 1, 2, 4)),
    ('sd-dkd', 'loss_sdd', (0.5, 1, 2, 4)),
    ('nkd', 'loss_nkd', (0.5, 1, 2, 4)),
    ('sd-nkd', 'loss_sdd', (0.5, 1, 2, 4)),
):
    for _ce in (0.1, 1):
        for _weight in _weights:
            rows[f'{_ce} CE + {_weight} {_method.upper()}'] = dict(
                config=f'configs/demo/{_method}.py',
                options={
                    'model.student_loss_weight': _ce,
                    f'model.distiller.distill_losses.{_loss}.loss_weight':
                    _weight
                },
                panel=_method.upper())
notes = [
    'Students and teacher are trained on scenes of 960 of the 1,200 training '
    'digits and measured on scenes of the other 240. The released weights are '
    '0.1 CE + 0.9 KD, 1 CE + 1 DKD and 1 CE + 1 NKD, and the same for the SD '
    'forms.'
]
