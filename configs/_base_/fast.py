# Faster settings that are exact or measured to be harmless: docs/en/speed.md
in_memory = dict(  # for the dataloader of an InMemoryDataset
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    collate_fn=dict(type='batch_or_collate'))
fast_model = dict(
    teacher_inference=dict(channels_last=True, fold_bn=True),
    student_channels_last=True)
fast_hooks = [
    dict(type='TeacherCacheHook', cache_dir='work_dirs/teacher_cache')
]
