# Phase 1 of SSKD: a teacher's head, 60 epochs
method = dict(_delete_=True, _scope_='mmrazor', type='RotationHead')
pipeline = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
