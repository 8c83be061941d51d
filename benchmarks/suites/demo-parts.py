# What SDD's gain on digit scenes comes from: scales, weights of cells, the
# loss weight, and the rule for cells
_loss = 'model.distiller.distill_losses.loss_sdd'


def _row(panel, **settings):
    return dict(
        config='configs/demo/sd-kd.py',
        options={
            f'{_loss}.{key}': value
            for key, value in settings.items()
        },
        panel=panel)


teacher = 'configs/demo/teacher.py'
seeds = [0, 1, 2, 3, 4]
reference = 'M = {1, 2, 4}, as released'
rows = {reference: _row('scales')}
for _scales in ((1, ), (1, 2), (1, 4), (2, 4), (4, )):
    _title = ', '.join(map(str, _scales))
    rows[f'M = {{{_title}}}'] = _row('scales', scales=_scales)
for _weight in (0.5, 1, 4, 8):
    rows[f'complementary weight {_weight}'] = _row(
        'weight of complementary cells', complementary_weight=_weight)
for _weight in (0.45, 1.8, 3.6):
    rows[f'loss weight {_weight}'] = _row('loss weight', loss_weight=_weight)
for _weight in (1.8, 3.6):
    rows[f'M = {{1}}, loss weight {_weight}'] = _row(
        'loss weight', scales=(1, ), loss_weight=_weight)
rows['cells compared by class'] = _row('rule', consistency='class')
notes = [
    'As released: M = {1, 2, 4}, complementary weight 2, loss weight 0.9, '
    'cells compared by label. Every other row changes what it names. '
    'Hierarchical and direct pooling are the same on these 8 x 8 maps. With '
    'M = {1}, SD-KD is KD.'
]
