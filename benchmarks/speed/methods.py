# Copyright (c) sdd_mm contributors. All rights reserved.
"""The paper's Tables 5 and 9: a step of every method beside a step of KD."""
import tempfile
from pathlib import Path
from typing import Dict

from mmengine.config import Config
from torch import Tensor

from sdd_mm.engine.preflight.distilling import learning

from ..metafiles import BASELINES as LABELS
from .by_hand import ByHand
from .measure import Result, Times, interleave, ratio
from .saved import saved
from .trainers import (CONFIGS, EPOCH, PAIR, Trainer, configure, describe,
                       started)

SDD = ('kd', 'dkd', 'nkd', 'sd-kd', 'sd-dkd', 'sd-nkd')
# the pair whose run file has the lines of a method
BASELINES = dict(
    fitnet='res32x4_shuv2_cifar100',
    rkd='res32x4_shuv2_cifar100',
    sp='res32x4_shuv2_cifar100',
    pkt='res32x4_shuv2_cifar100',
    crd=PAIR,
    semckd='res32x4_shuv2_cifar100',
    reviewkd=PAIR,
    mgd='res32x4_shuv2_cifar100',
    sskd='res32x4_mbv2_cifar100')
BASELINES['sd-sskd'] = BASELINES['sskd']
# milliseconds of Figure 1 of Zhao et al. (CVPR 2022), whose KD takes 11;
# SD-KD's 11 is the only figure of the SDD paper's own
PUBLISHED = dict(fitnet=14, rkd=25, crd=41, reviewkd=26)
PUBLISHED['sd-kd'] = PUBLISHED_KD = 11
GOALS = {'sd-kd': 1.02, 'crd': 1.6, 'rkd': 1.1, 'reviewkd': 1.7}
BY_HAND = 1.05
HEAD = ('method', 'step / KD', 'published', 'processor time / KD',
        'with the loader / KD', 'kept for backward (MiB)',
        'learned beside the student', 'step / by hand')


def run(options) -> Result:
    result = Result(
        'methods', 'A training step of every method of the paper beside one '
        'of KD, and beside a loop written by hand: ResNet32x4 to ResNet8x4, '
        'B 64, without the data loader.')
    methods = ('kd', 'fitnet', 'crd') if options.tiny else (*SDD, *BASELINES)
    with tempfile.TemporaryDirectory() as folder, started(
            configs(methods, options, Path(folder))) as trainers:
        steps = {name: Step(trainer) for name, trainer in trainers.items()}
        loops = {
            f'{name}, by hand': ByHand(step.trainer, step.batch)
            for name, step in steps.items()
        }
        # steps of a GPU are too short to be timed alone
        calls = options.steps if options.device == 'cuda' else 1
        found = interleave({**steps, **loops}, options.rounds, calls)
        loaded = interleave(trainers, options.rounds, calls)
        kept = {name: step.kept() for name, step in steps.items()}
        learned = {name: step.learned() for name, step in steps.items()}
    for name in methods[1:]:
        said = _published(name)
        result.claim(
            f'{title(name)} / KD' + f' (published {said})' * bool(said),
            GOALS.get(name), **ratio(found[name], found['kd']))
    for name in methods:
        result.claim(f'{title(name)}: our step / by hand', BY_HAND,
                     **ratio(found[name], found[f'{name}, by hand']))
    result.table = [list(HEAD)] + [
        row(name, found, loaded, kept[name], learned[name]) for name in methods
    ]
    result.samples = dict(alone=found, loaded=loaded, kept=kept)
    result.notes += [
        'Published: milliseconds of Figure 1 of Zhao et al. (CVPR 2022, DKD), '
        'which the tables of the SDD paper repeat; of its own is SD-KD alone. '
        'The GPU is not named.',
        'Our baselines were made fast, too: a slow baseline flatters SDD. So '
        'a ratio below the published one is a fact about this code.',
        'By hand: plain PyTorch with the same networks and losses; the '
        'features are taken by hooks. Its teacher always runs to the end.',
        describe(options)
    ]
    return result


def configs(methods: tuple, options, folder: Path) -> Dict[str, Config]:
    """The runs of the methods on one pair of networks."""
    found = {}
    for name in methods:
        path = CONFIGS / 'sdd' / f'{name}_{PAIR}.py'
        if name in BASELINES:
            source = f'{name}_{BASELINES[name]}.py'
            text = (CONFIGS / 'baselines' / source).read_text()
            text = text.replace(BASELINES[name], PAIR)
            path = folder / f'{name}_{PAIR}.py'
            path.write_text(text.replace('../_base_', f'{CONFIGS}/_base_'))
        cfg = configure(path, options)
        losses = cfg.model.distiller.distill_losses
        if options.tiny:
            cfg.train_dataloader.batch_size = 2
            losses.get('loss_crd', {}).update(num_negatives=20)
        losses.get('loss_crd', {}).update(
            num_data=(24 if options.tiny else EPOCH) *
            cfg.train_dataloader.batch_size)
        found[name] = cfg
    return found


class Step:
    """Training steps on one batch that stays on the device.

    Args:
        trainer (Trainer): A run past its first step.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        batch = next(iter(trainer.runner.train_dataloader))
        self.batch = trainer.model.data_preprocessor(batch, True)

    def __call__(self) -> None:
        """One step: losses, backward, optimizer."""
        model, wrapper = self.trainer.model, self.trainer.runner.optim_wrapper
        with wrapper.optim_context(model):
            losses = model(**self.batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        wrapper.update_params(loss)

    def kept(self) -> float:
        """MiB that the graph of a step keeps beyond weights and images."""
        model = self.trainer.model
        known = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*model.parameters(), *model.buffers(),
                           self.batch['inputs'])
        }

        def loss() -> Tensor:
            return model.parse_losses(model(**self.batch, mode='loss'))[0]

        return sum(size for place, size in saved(loss).items()
                   if place not in known) / 2**20

    def learned(self) -> int:
        """Parameters that learn beside the student."""
        model = self.trainer.model
        return learning(model) - learning(model.student)


def title(name: str) -> str:
    return LABELS.get(name, name.upper())


def _published(name: str) -> str:
    if name not in PUBLISHED:
        return ''
    return f'{PUBLISHED[name] / PUBLISHED_KD:.2f}'


def row(name: str, found: Dict[str, Times], loaded: Dict[str, Times],
        kept: float, learned: int) -> list:
    """The row of a method in the table."""
    alone = ratio(found[name], found['kd'])
    by_hand = ratio(found[name], found[f'{name}, by hand'])
    processor = alone['processor']
    return [
        title(name), f'{alone["value"]:.2f}',
        _published(name), '' if processor is None else f'{processor:.2f}',
        f'{ratio(loaded[name], loaded["kd"])["value"]:.2f}', f'{kept:.0f}',
        f'{learned:,}', f'{by_hand["value"]:.2f}'
    ]
