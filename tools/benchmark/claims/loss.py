# Copyright (c) sdd_mm contributors. All rights reserved.
"""P2: forward and backward of the losses, from feature maps."""
from functools import partial

from . import shapes
from .measure import Result, claim, interleave, ratio
from .shapes import CRITERIA, Loss

CASES = (
    # title, shape, goal, calls a round
    ('CIFAR, C 256 / 256', shapes.CIFAR, 0.33, 10),
    ('ImageNet, C 512 / 512', shapes.IMAGENET, 0.5, 1),
    ('ImageNet, C 1024 / 2048', shapes.IMAGENET_WIDE, 0.5, 1),
)


def run(options) -> Result:
    result = Result(
        'loss', 'An SDD loss costs at most a third (CIFAR) or half (ImageNet) '
        'of a straightforward vectorised writing of it: forward and backward '
        'from the feature maps, 21 cells.')
    differences = []
    for title, shape, goal, calls in CASES:
        if options.tiny:
            shape = shape.small()
        for criterion in CRITERIA:
            loss = Loss(shape, criterion, options.device)
            difference = loss.difference()
            if not difference <= 1e-5:
                raise AssertionError(
                    f'SD-{criterion} and its plain writing differ by '
                    f'{difference:.2g}: they are not the same loss')
            found = interleave(
                dict(
                    ours=partial(loss.step, loss.ours),
                    plain=partial(loss.step, loss.plain)),
                options.rounds,
                calls=1 if options.tiny else calls,
                warmup=1 if options.tiny else 2 if calls > 1 else 1)
            name = f'SD-{criterion}, {title}'
            result.samples[name] = found
            result.claims.append(
                claim(f'{name}: ours / plain', goal,
                      **ratio(found['ours'], found['plain'])))
            differences.append(difference)
    result.notes.append(
        'Values and gradients of the two differ by at most '
        f'{max(differences):.1g} of the largest entry. '
        'CIFAR: B 64, K 100, 8 x 8 maps. ImageNet: B 256, K 1000, 7 x 7 maps. '
        "C: channels of the student's and of the teacher's map. Gradients "
        "reach the student's map, weight and bias.")
    return result
