# How much of the gain is speed: digit scenes, 12, 24 and 48 epochs
_kd = 'model.distiller.distill_losses.loss_kd.loss_weight'
_rows = {
    'student alone': dict(config='configs/demo/student.py'),
    'KD': dict(config='configs/demo/kd.py'),
    # the best weight of KD in demo-weights.py
    'KD, 0.1 CE + 4 KD': dict(config='configs/demo/kd.py', options={_kd: 4.0}),
    'SD-KD': dict(config='configs/demo/sd-kd.py'),
}


def _train(row, epochs):
    length = {
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': epochs // 12,
        'param_scheduler.total_steps': epochs
    }
    return dict(
        row,
        options={
            **row.get('options', {}),
            **length
        },
        panel=f'{epochs} epochs')


teacher = 'configs/demo/teacher.py'
seeds = [0, 1, 2, 3, 4]
rows = {
    f'{title}, {epochs} epochs': _train(row, epochs)
    for epochs in (12, 24, 48)
    for title, row in _rows.items()
}
notes = [
    'The learning rate follows one cycle over the whole training, whatever '
    'its length. The weight of KD that is best on held-out digits was chosen '
    'with 12 epochs.'
]
