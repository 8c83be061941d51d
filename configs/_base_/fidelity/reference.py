# The released code, which the published numbers came from: the defaults of
# ScaleDecoupledLoss, spelled out.
fidelity = dict(pooling='hierarchical', consistency='label', reduction='mean')
