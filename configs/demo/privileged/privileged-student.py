_base_ = [
    '../../_base_/models/resnet8_digit_scenes.py',
    '../../_base_/datasets/privileged_scenes_bs64.py',
    '../../_base_/schedules/digit_scenes_12e.py',
    '../../_base_/demo_runtime.py'
]

model = _base_.resnet8
train_cfg = dict(max_epochs=24)
param_scheduler = dict(total_steps=24)
