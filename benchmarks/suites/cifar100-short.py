# A quarter of the paper's 240 epochs: steps and warm-up are a quarter, too
_base_ = './cifar100-paper.py'
options = {
    'train_cfg.max_epochs': 60,
    'param_scheduler.milestones': [38, 45, 53],
}
rows = {
    title:
    dict(
        row,
        options={} if row['config'].split('/')[-1].startswith(
            ('kd', 'sd-kd')) else {'custom_hooks.2.epochs': 5})
    for title, row in _base_.rows.items()
}
notes = [
    'CIFAR-100, 60 epochs: a quarter of the paper\'s schedule. No published '
    'number compares with it.'
]
