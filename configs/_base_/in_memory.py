# What a dataloader of an InMemoryDataset needs, which gives finished batches
in_memory = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    collate_fn=dict(type='batch_or_collate'))
