# Equations 6 to 10 of the paper, with its 30-epoch linear warm-up.
fidelity = dict(pooling='direct', consistency='class', reduction='sum')
# with 21 cells training fails at 40: benchmarks/demo-paper.md
fidelity_clip_grad = dict(max_norm=5)
fidelity_hooks = [
    dict(type='DistillWarmupHook', loss='loss_sdd', epochs=30, by_epoch=False),
]
