_base_ = './default_runtime.py'

default_hooks = dict(
    logger=dict(interval=24), checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
