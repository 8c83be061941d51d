# Copyright (c) sdd_mm contributors. All rights reserved.
"""How time and memory of a loss grow with each of its sizes."""
import math
import statistics
from dataclasses import replace
from functools import partial
from typing import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from .measure import Result, claim, interleave
from .shapes import Loss, Shape

MIB = 2**20
# ImageNet-21k, as it is usually trained
CLASSES_21K = 21841
SCALES = ((1, ), (1, 2), (1, 2, 4), (1, 2, 4, 8))
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
        replace(BASE, scales=m).cells: replace(BASE, classes=1000, scales=m)
        for m in SCALES
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

    On a GPU its allocator says so. On the CPU it is the running sum of every
    allocation and release that torch's profiler reports.
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
    for event in sorted(events, key=_start):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def _start(event) -> int:
    # torch < 2.4 has microseconds
    return event.start_ns() if hasattr(event, 'start_ns') else event.start_us()


def exponent(sizes: list, values: list) -> float:
    """Slope of the logarithms between the larger half of the sizes."""
    half = len(sizes) // 2
    x = [math.log(size) for size in sizes[half:]]
    y = [math.log(value) for value in values[half:]]
    return statistics.linear_regression(x, y).slope


def run(options) -> Result:
    result = Result(
        'growth', 'SD-DKD: time and memory of the loss, forward and backward '
        'from the feature maps (C 256), grow no faster than any of its sizes.')
    curves = []
    for size, fixed, shapes in TINY if options.tiny else SWEEPS:
        curve = dict(size=size, fixed=fixed, sizes=list(shapes))
        for whose in ('ours', 'plain'):
            curve[whose] = dict(milliseconds=[], mebibytes=[])
        for shape in shapes.values():
            loss = Loss(shape, 'DKD', options.device)
            cases = {
                whose: partial(loss.step, getattr(loss, whose))
                for whose in ('ours', 'plain')
            }
            found = interleave(cases, options.rounds)
            for whose, case in cases.items():
                times = curve[whose]
                times['milliseconds'].append(
                    1000 * statistics.median(found[whose].wall))
                times['mebibytes'].append(peak(case, options.device) / MIB)
        curve['exponents'] = {
            whose: {
                quantity: exponent(curve['sizes'], values)
                for quantity, values in curve[whose].items()
            }
            for whose in ('ours', 'plain')
        }
        curves.append(curve)
        for quantity, name in (('milliseconds', 'time'), ('mebibytes',
                                                          'peak memory')):
            result.claims.append(
                claim(
                    f'Exponent of {name} in {size}',
                    1.1,
                    curve['exponents']['ours'][quantity],
                    unit='power'))
        if CLASSES_21K in shapes:
            logits = shapes[CLASSES_21K].logit_bytes / MIB
            for whose in ('ours', 'plain'):
                result.claims.append(
                    claim(
                        f'Peak memory at K {CLASSES_21K}, 21 cells, B 64: '
                        f'{whose}, in tensors of local logits', None,
                        curve[whose]['mebibytes'][-1] / logits))
    result.samples['curves'] = curves
    result.notes += [
        'Exponents are slopes between the larger half of the sizes, where '
        'fixed costs no longer count.',
        'Peak memory is what a call holds at most beyond its inputs: the '
        "allocator's own account on a GPU, the running sum of the allocations "
        "and releases that torch's profiler reports on a CPU. Gradients are "
        'part of it.'
    ]
    return result
