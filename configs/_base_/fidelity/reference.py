# What SDD's authors released, and what the published numbers came from. These
# are the defaults of ScaleDecoupledLoss, spelled out.
fidelity = dict(pooling='hierarchical', consistency='label', reduction='mean')
