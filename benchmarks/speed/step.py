# Copyright (c) sdd_mm contributors. All rights reserved.
"""P1: a training step of SD-KD, SD-DKD and SD-NKD beside its plain form."""
from sdd_mm.images import innermost

from .measure import Result, interleave, ratio
from .trainers import (PAIR, configure, describe, in_memory, started,
                       with_scales)

FINE = (1, 2, 4)
GOALS = dict(kd=1.03, dkd=1.04, nkd=1.04)


def run(options) -> Result:
    result = Result(
        'step', 'A training step with SDD costs at most 3 % (SD-KD) or 4 % '
        '(SD-DKD, SD-NKD) more than without it: ResNet32x4 to ResNet8x4, '
        'B 64, through the runner.')
    for method in ('kd', ) if options.tiny else GOALS:
        sd, name = f'sd-{method}', method.upper()
        cfgs = {
            method: configure(f'sdd/{method}_{PAIR}.py', options),
            sd: configure(f'sdd/{sd}_{PAIR}.py', options)
        }
        own = tuple(cfgs[sd].model.distiller.distill_losses.loss_sdd.scales)
        if options.device == 'cuda':
            cfgs = {title: resident(cfg) for title, cfg in cfgs.items()}
        cfgs['fine'] = with_scales(cfgs[sd], FINE)
        with started(cfgs) as trainers:
            found = interleave(trainers, options.rounds, options.steps)
        for case, scales in (('fine', FINE), (sd, own)):
            result.claim(f'SD-{name} / {name}, M = {set(scales)}',
                         GOALS[method], **ratio(found[case], found[method]))
        result.samples[method] = found
    result.notes.append(describe(options))
    if options.device == 'cuda':
        result.notes.append('The images are in GPU memory: a loader would '
                            'take longer than the step.')
    return result


def resident(cfg):
    """The run with few images, which are in GPU memory."""
    cfg = in_memory(cfg)
    innermost(cfg.train_dataloader.dataset).num_images = 8192
    return cfg
