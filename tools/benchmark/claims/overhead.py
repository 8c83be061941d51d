# Copyright (c) sdd_mm contributors. All rights reserved.
"""P8 and P9: what is paid beside the networks."""
import torch
from mmpretrain.registry import MODELS

from .bare import BareLoop
from .measure import Result, claim, interleave, ratio
from .step import PAIR
from .trainers import close, configure, describe, fast, start, stock

STUDENT, TEACHER = 'res8x4_cifar100', 'res32x4_cifar100'


def run(options) -> Result:
    result = Result(
        'overhead', 'Distillation costs its teacher\'s inference and little '
        'more; the runner costs little more than a loop written by hand, and '
        'less than MMRazor\'s own classes: ResNet32x4 to ResNet8x4, B 64.')
    cfgs = {
        'student': configure(f'vanilla/{STUDENT}.py', options),
        'KD': configure(f'sdd/kd_{PAIR}.py', options),
        'SD-KD': configure(f'sdd/sd-kd_{PAIR}.py', options)
    }
    for name in ('KD', 'SD-KD'):
        cfgs[f'{name}, fast'] = fast(cfgs[name])
        cfgs[f'{name}, MMRazor'] = stock(cfgs[name])
    trainers = start(cfgs)
    cases = dict(trainers)
    for name in ('KD', 'SD-KD'):
        cases[f'{name}, by hand'] = BareLoop(cfgs[name], options.device)
    cases['teacher'] = inference(options, cfgs['KD'])
    found = interleave(cases, options.rounds, options.steps)
    extra = found['KD'] - found['student']
    result.claims.append(
        claim('(KD step - step of the student alone) / teacher\'s inference',
              1.05, **ratio(extra, found['teacher'])))
    for name in ('KD', 'SD-KD'):
        for other, goal in (('by hand', 1.05), ('MMRazor', 0.9)):
            result.claims.append(
                claim(f'{name}: our step / {other}', goal,
                      **ratio(found[name], found[f'{name}, {other}'])))
        result.claims.append(
            claim(f'{name}: our step with the fast options / MMRazor', 0.9,
                  **ratio(found[f'{name}, fast'], found[f'{name}, MMRazor'])))
    result.samples = found
    result.notes += [
        'By hand: plain PyTorch with the same networks, data set, loss '
        'function, optimizer and clipping. MMRazor: SingleTeacherDistill and '
        'ConfigurableDistiller with the same loss modules, MMEngine\'s own '
        'hooks and optimizer wrapper. Fast options: images in memory, both '
        'networks channels last, the teacher with folded batch norms.',
        describe(options)
    ]
    close(trainers)
    return result


def inference(options, cfg):
    """The teacher alone, on a batch of the same size."""
    teacher = MODELS.build(cfg.model.teacher).to(options.device).eval()
    images = torch.randn(
        cfg.train_dataloader.batch_size, 3, 32, 32, device=options.device)

    def call() -> None:
        with torch.no_grad():
            teacher(images, mode='tensor')

    return call
