# Copyright (c) sdd_mm contributors. All rights reserved.
"""How the networks of the distillation literature start."""

KAIMING = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer='BatchNorm2d'),
]
