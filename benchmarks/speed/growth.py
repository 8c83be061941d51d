# Copyright (c) sdd_mm contributors. All rights reserved.
"""How time and memory of a loss grow with each of its sizes."""
import math
import statistics
from dataclasses import replace
from functools import partial
from typing import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from .measure import Result, interleave
from .shapes import Loss, Shape

MIB = 2**20
# ImageNet-21k, as it is usually trained
CLASSES_21K = 21841
BASE = Shape(side=16)
SWEEPS = (
    ('images in the batch', 'K 100, 21 cells, 16 x 16', {
        n: replace(BASE, batch=n)
        for n in (16, 32, 64, 128, 256)
    }),
    ('classes', 'B 64, 21 cells, 16 x 16', {
        n: replace(BASE, classes=n)
        for n in (10, 100, 1000, 5000, CLASSES_21K)
    }),
    ('cells', 'B 64, K 1000, 16 x 16', {
        sum(m * m for m in scales): replace(BASE, classes=1000, scales=scales)
        for scales in ((1, ), (1, 2), (1, 2, 4), (1, 2, 4, 8))
    }),
    ('positions of the map', 'B 64, K 100, 21 cells', {
        n * n: replace(BASE, side=n)
        for n in (4, 8, 16, 32)
    }),
)
TINY = (('classes', 'tiny', {
    n: replace(BASE.small(), classes=n)
    for n in (5, 10, 20)
}), )


def peak(function: Callable[[], None], device: str) -> int:
    """Bytes that a call holds at most, beyond what was there before.

    On a GPU the allocator's own account. On the CPU the running sum of the
    allocations and releases that torch's profiler reports.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        function()
    events = [
        event for event in found.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def exponent(sizes: list, values: list) -> float:
    """Slope of the logarithms over the larger half of the sizes."""
    half = len(sizes) // 2
    x, y = (list(map(math.log, numbers[half:])) for numbers in (sizes, values))
    return statistics.linear_regression(x, y).slope


def sweep(shapes: dict, options) -> dict:
    """Times and memory of both writings, by shape, and their exponents."""
    found = {
        whose: dict(milliseconds=[], mebibytes=[])
        for whose in ('ours', 'plain')
    }
    for shape in shapes.values():
        loss = Loss(shape, 'DKD', options.device)
        cases = {whose: partial(loss.step, whose) for whose in found}
        times = interleave(cases, options.rounds)
        for whose, case in cases.items():
            found[whose]['milliseconds'].append(
                1000 * statistics.median(times[whose].wall))
            found[whose]['mebibytes'].append(peak(case, options.device) / MIB)
    found['exponents'] = {
        whose: {
            name: exponent([*shapes], values)
            for name, values in own.items()
        }
        for whose, own in found.items()
    }
    return found


def run(options) -> Result:
    result = Result(
        'growth', 'SD-DKD: time and memory of the loss, forward and backward '
        'from the feature maps (C 256), grow no faster than any of its sizes.')
    curves = result.samples['curves'] = []
    for size, fixed, shapes in TINY if options.tiny else SWEEPS:
        curve = dict(
            size=size,
            fixed=fixed,
            sizes=list(shapes),
            **sweep(shapes, options))
        curves.append(curve)
        for quantity, name in (('milliseconds', 'time'), ('mebibytes',
                                                          'peak memory')):
            result.claim(
                f'Exponent of {name} in {size}',
                1.1,
                curve['exponents']['ours'][quantity],
                unit='power')
        if CLASSES_21K in shapes:
            logits = shapes[CLASSES_21K].logit_bytes / MIB
            for whose in ('ours', 'plain'):
                result.claim(
                    f'Peak memory at K {CLASSES_21K}, 21 cells, B 64: '
                    f'{whose}, in tensors of local logits', None,
                    curve[whose]['mebibytes'][-1] / logits)
    result.notes += [
        'Exponents are slopes over the larger half of the sizes, where fixed '
        'costs no longer count.',
        'Peak memory is the most that a call holds beyond its inputs: the '
        "allocator's own account on a GPU, the running sum of the allocations "
        "and releases that torch's profiler reports on a CPU. It includes the "
        'gradients.'
    ]
    return result
