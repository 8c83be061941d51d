# Scenes of handwritten digits that come with scikit-learn: nothing to download
data_preprocessor = dict(
    num_classes=10, mean=[64.0] * 3, std=[64.0] * 3, to_rgb=False)

pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='DigitScenes', split='train', num_scenes=1500, pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='DigitScenes', split='test', num_scenes=1000, pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
image_size = 32
