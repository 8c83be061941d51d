# Copyright (c) sdd_mm contributors. All rights reserved.
"""How many epochs fit into a time, from a few measured steps."""
import re
import statistics
import time
from itertools import cycle, islice
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from ..errors import SDDError
from ..images import without_workers

STEPS = 6
LEAST = 5  # epochs
UNITS = dict(s=1, m=60, h=3600)
SPARE = 0.85  # the rest is for validation, the report and the export


class TimeError(SDDError, ValueError):
    """A time that cannot be read, or that is too short."""


def seconds_of(text: str) -> float:
    """Seconds of a time such as '90s', '30m', '2h' or '1h30m'."""
    parts = re.findall(r'(\d+(?:\.\d+)?)([smh])', text)
    if not parts or ''.join(map(''.join, parts)) != text:
        raise TimeError(f'--time must be like 90s, 30m or 1h30m, got {text!r}')
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def seconds_per_epoch(config: Path) -> float:
    """The time of an epoch, from a few training steps on its own data.

    Args:
        config (Path): A training config. A teacher may be untrained.
    """
    cfg = Config.fromfile(config)
    if 'teacher' in cfg.model:
        cfg.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    model = cfg.model.get('architecture', cfg.model)
    model.backbone.pop('init_cfg', None)  # no download
    scope = cfg.get('default_scope', 'mmpretrain')
    with DefaultScope.overwrite_default_scope(scope):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = MODELS.build(cfg.model).to(get_device()).train()
        wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper))
        batches = Runner.build_dataloader(
            without_workers(cfg.train_dataloader), seed=0)
    wrapper.initialize_count_status(model, 0, STEPS)
    seconds, start = [], time.perf_counter()
    for batch in islice(cycle(batches), STEPS):
        for value in model.train_step(batch, wrapper).values():
            value.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return statistics.median(seconds[1:]) * len(batches)


def epochs_within(seconds: float, per_epoch: float) -> int:
    """The epochs of each run that fit into a time.

    Args:
        seconds (float): The time of all runs.
        per_epoch (float): Seconds of an epoch of all runs.

    Raises:
        TimeError: If they are too few to learn anything.
    """
    epochs = int(SPARE * seconds / per_epoch)
    if epochs < LEAST:
        need = LEAST * per_epoch / SPARE
        raise TimeError(
            f'--time is too short: one epoch of all runs takes '
            f'{per_epoch:.0f} s, so {LEAST} epochs need {need / 60:.0f} min. '
            'Give more, a smaller --image-size, or smaller networks')
    return epochs
