_base_ = [
    '../../_base_/models/resnet14_digit_scenes.py',
    '../../_base_/datasets/privileged_scenes_bs64.py',
    '../../_base_/schedules/digit_scenes_12e.py',
    '../../_base_/demo_runtime.py'
]

model = dict(**_base_.resnet14)
model['backbone'].update(in_channels=1)
data_preprocessor = dict(_delete_=True, **_base_.depth_preprocessor)
train_dataloader = dict(dataset=dict(num_scenes=4000, view='depth'))
val_dataloader = dict(dataset=dict(view='depth'))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=6)
param_scheduler = dict(total_steps=6)
