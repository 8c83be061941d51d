_base_ = './default_runtime.py'

default_hooks = dict(logger=dict(interval=24))
randomness = dict(seed=0)
