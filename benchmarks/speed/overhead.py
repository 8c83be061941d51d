# Copyright (c) sdd_mm contributors. All rights reserved.
"""P8 and P9: the time of a step outside the networks."""
import torch
from mmpretrain.registry import MODELS

from .bare import BareLoop
from .measure import Result, interleave, ratio
from .trainers import PAIR, STUDENT, configure, describe, fast, started, stock


def run(options) -> Result:
    result = Result(
        'overhead', 'Distillation costs its teacher\'s inference and little '
        'more; the runner costs little more than a loop written by hand, and '
        'less than MMRazor\'s own classes: ResNet32x4 to ResNet8x4, B 64.')
    own = {
        'KD': configure(f'sdd/kd_{PAIR}.py', options),
        'SD-KD': configure(f'sdd/sd-kd_{PAIR}.py', options)
    }
    cfgs = {'student': configure(f'vanilla/{STUDENT}.py', options), **own}
    for name, cfg in own.items():
        cfgs[f'{name}, fast'] = fast(cfg)
        cfgs[f'{name}, MMRazor'] = stock(cfg)
    with started(cfgs) as trainers:
        cases = {
            **trainers,
            **{
                f'{name}, by hand': BareLoop(cfg, options.device)
                for name, cfg in own.items()
            }, 'teacher': inference(options, own['KD'])
        }
        found = interleave(cases, options.rounds, options.steps)
    result.claim(
        '(KD step - step of the student alone) / teacher\'s inference', 1.05,
        **ratio(found['KD'] - found['student'], found['teacher']))
    for name in own:
        for title, ours, other, goal in (
            ('our step / by hand', '', 'by hand',
             1.05), ('our step / MMRazor', '', 'MMRazor',
                     0.9), ('our step with the fast options / MMRazor',
                            ', fast', 'MMRazor', 0.9)):
            result.claim(
                f'{name}: {title}', goal,
                **ratio(found[name + ours], found[f'{name}, {other}']))
    result.samples = found
    result.notes += [
        'By hand: plain PyTorch with the same networks, data set, loss '
        'function, optimizer and clipping. MMRazor: SingleTeacherDistill and '
        'ConfigurableDistiller with the same loss modules, MMEngine\'s own '
        'hooks and optimizer wrapper. Fast options: images in memory, both '
        'networks channels last, the teacher with folded batch norms.',
        describe(options)
    ]
    return result


def inference(options, cfg):
    """The teacher alone, on a batch of the same size."""
    teacher = MODELS.build(cfg.model.teacher).to(options.device).eval()
    images = torch.randn(
        cfg.train_dataloader.batch_size, 3, 32, 32, device=options.device)

    @torch.no_grad()
    def call() -> None:
        teacher(images, mode='tensor')

    return call
