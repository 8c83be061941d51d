# Scenes of digits in color, of which depth is known, too
data_preprocessor = dict(
    num_classes=10, mean=[64.0] * 3, std=[64.0] * 3, to_rgb=False)
depth_preprocessor = dict(num_classes=10, mean=[64.0], std=[64.0])

pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='PrivilegedDigitScenes',
        split='train',
        num_scenes=1500,
        view='color',
        pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='PrivilegedDigitScenes',
        split='test',
        num_scenes=1000,
        view='color',
        pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
