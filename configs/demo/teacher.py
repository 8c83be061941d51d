_base_ = [
    '../_base_/models/resnet14_digit_scenes.py',
    '../_base_/datasets/digit_scenes_bs64.py',
    '../_base_/schedules/digit_scenes_12e.py', '../_base_/demo_runtime.py'
]

model = _base_.resnet14
train_dataloader = dict(dataset=dict(num_scenes=4000))
train_cfg = dict(max_epochs=6)
param_scheduler = dict(total_steps=6)
