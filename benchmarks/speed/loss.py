# Copyright (c) sdd_mm contributors. All rights reserved.
"""P2: forward and backward of the losses, from feature maps."""
from functools import partial

from . import shapes
from .measure import Result, interleave, ratio

CASES = (
    # title, shape, goal, calls per round
    ('CIFAR, C 256 / 256', shapes.CIFAR, 0.33, 10),
    ('ImageNet, C 512 / 512', shapes.IMAGENET, 0.5, 1),
    ('ImageNet, C 1024 / 2048', shapes.IMAGENET_WIDE, 0.5, 1),
)


def run(options) -> Result:
    result = Result(
        'loss', 'An SDD loss costs at most a third (CIFAR) or half (ImageNet) '
        'of a straightforward vectorized writing of it: forward and backward '
        'from the feature maps, 21 cells.')
    differences = []
    for title, shape, goal, calls in CASES:
        if options.tiny:
            shape, calls = shape.small(), 1
        for criterion in shapes.CRITERIA:
            name = f'SD-{criterion}, {title}'
            loss = shapes.Loss(shape, criterion, options.device)
            differences.append(loss.difference())
            if not differences[-1] <= 1e-5:
                raise AssertionError(
                    f'{name}: the loss and its plain writing differ by '
                    f'{differences[-1]:.2g}: they are not the same loss')
            found = result.samples[name] = interleave(
                {
                    whose: partial(loss.step, whose)
                    for whose in ('ours', 'plain')
                },
                options.rounds,
                calls=calls,
                warmup=min(calls, 2))
            result.claim(f'{name}: ours / plain', goal,
                         **ratio(found['ours'], found['plain']))
    result.notes.append(
        'Values and gradients of the two differ by at most '
        f'{max(differences):.1g} of the largest entry. '
        'CIFAR: B 64, K 100, 8 x 8 maps. ImageNet: B 256, K 1000, 7 x 7 maps. '
        "C: channels of the student's and of the teacher's map. Gradients "
        "reach the student's map, weight and bias.")
    return result
