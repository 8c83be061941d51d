# A part of CIFAR-100 that two CPU cores can train: 20 classes, small ResNets
def _network(key, depth):
    return {f'{key}.backbone.depth': depth, f'{key}.head.num_classes': 20}


def _epochs(count):
    """The paper's steps, after 150, 180 and 210 of 240 epochs."""
    return {
        'train_cfg.max_epochs':
        count,
        'param_scheduler.milestones':
        [round(count * part / 240) for part in (150, 180, 210)]
    }


options = {
    f'{loader}_dataloader.{key}': value
    for loader in ('train', 'val', 'test')
    for key, value in (('num_workers', 0), ('dataset.num_classes', 20),
                       ('dataset.verify', 'content'))
}
options['data_preprocessor.num_classes'] = 20
teacher = 'configs/vanilla/res20_cifar100.py'
teacher_options = {**_network('model', 20), **_epochs(20)}
# what these two trained, as float16: the table grows on several machines
teacher_ckpt = 'benchmarks/teachers/res20_20classes_cifar100.pth'
seeds = [0, 1, 2]

rows = {
    'student alone':
    dict(config=teacher, options={
        **_network('model', 8),
        **_epochs(12)
    })
}
for _title, _method, _scales in (
    ('KD', 'kd', None),
    ('SD-KD, M = {1, 2}', 'sd-kd', (1, 2)),
    ('SD-KD, M = {1, 2, 4}', 'sd-kd', (1, 2, 4)),
    ('DKD', 'dkd', None),
    ('SD-DKD, M = {1, 2}', 'sd-dkd', (1, 2)),
    ('NKD', 'nkd', None),
    ('SD-NKD, M = {1, 2}', 'sd-nkd', (1, 2)),
):
    _options = dict(
        _network('model.architecture', 8), **_network('model.teacher', 20),
        **_epochs(12))
    _options['model.teacher.data_preprocessor.num_classes'] = 20
    if 'kd' != _method != 'sd-kd':  # as long a part of 12 epochs as 20 of 240
        _options['custom_hooks.2.epochs'] = 1
    if _scales:
        _options['model.distiller.distill_losses.loss_sdd.scales'] = _scales
    rows[_title] = dict(
        config=f'configs/sdd/{_method}_res56_res20_cifar100.py',
        options=_options,
        panel=_method.split('-')[-1].upper())
notes = [
    'CIFAR-100\'s first 20 classes (10,000 images to train, 2,000 to test): a '
    'ResNet-20 of 20 epochs teaches a ResNet-8 for 12. No published '
    'number compares with them. The teacher has 68.70 %.'
]
