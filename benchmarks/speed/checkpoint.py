# Copyright (c) sdd_mm contributors. All rights reserved.
"""P10: the size of a checkpoint."""
import os

from mmengine.logging import HistoryBuffer

from .measure import Result
from .trainers import EPOCH, PAIR, STUDENT, configure, started, stock

EPOCHS = 240


def run(options) -> Result:
    result = Result(
        'checkpoint', 'A distilled student\'s checkpoint, without the '
        'optimizer\'s state, is as large as that of the student trained '
        'alone.')
    cfgs = {
        'alone': configure(f'vanilla/{STUDENT}.py', options),
        'SD-KD': configure(f'sdd/sd-kd_{PAIR}.py', options)
    }
    cfgs['MMRazor'] = stock(cfgs['SD-KD'])
    for cfg in cfgs.values():
        cfg.train_dataloader.batch_size = 2
    with started(cfgs) as trainers:
        for when, iterations in (('after a step', 0),
                                 (f'after {EPOCHS} epochs', EPOCH * EPOCHS)):
            sizes = result.samples[when] = {}
            for name, trainer in trainers.items():
                fill(trainer.runner.message_hub, iterations)
                sizes[name] = size(trainer.runner)
            for name, goal in (('SD-KD', 1.02), ('MMRazor', None)):
                result.claim(f'{name} / the student alone, {when}', goal,
                             sizes[name] / sizes['alone'])
            result.notes.append(f'Bytes {when}: ' +
                                ', '.join(f'{name} {value:,}'
                                          for name, value in sizes.items()))
    result.notes += [
        'The runner wrote them, without optimizer and schedulers. MMRazor is '
        'SingleTeacherDistill with the same losses and MMEngine\'s own hooks.',
        f'Every checkpoint has the histories of its scalars: those of {EPOCHS}'
        ' epochs are filled in, not trained.'
    ]
    return result


def size(runner) -> int:
    """Bytes of a checkpoint as the runner writes it."""
    runner.save_checkpoint(
        runner.work_dir,
        'size.pth',
        save_optimizer=False,
        save_param_scheduler=False)
    return os.path.getsize(os.path.join(runner.work_dir, 'size.pth'))


def fill(hub, iterations: int) -> None:
    """Give every scalar the history of a long run."""
    for key, history in list(hub.log_scalars.items()):
        if type(history) is HistoryBuffer:
            # one by one it would copy itself at every step
            hub.log_scalars[key] = HistoryBuffer([1.] * iterations,
                                                 [1] * iterations)
        else:
            for _ in range(iterations):
                history.update(1.)
