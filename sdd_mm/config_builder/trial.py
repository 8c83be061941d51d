# Copyright (c) sdd_mm contributors. All rights reserved.
"""One training forward of a config, before it is written."""
import logging
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ..engine.preflight import check_training
from ..engine.preflight.methods import without_meaning
from ..engine.smoke import to_smoke


def try_config(text: str, out: Path) -> None:
    """Build a config from its future folder and run one training forward.

    Without weights, on a few generated images in the config's own pipeline.

    Args:
        text (str): The source code of the config.
        out (Path): Where it will be written; ``_base_`` is relative to it.

    Raises:
        Exception: Whatever keeps the config from training.
    """
    draft = out.with_name(f'.{os.getpid()}_{out.name}')
    # hides the warning that the teacher is untrained here
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        draft.write_text(text, encoding='utf-8')
        _forward(Config.fromfile(draft))
    finally:
        logging.disable(disabled)
        draft.unlink(missing_ok=True)


def _forward(cfg: Config) -> None:
    cfg.work_dir = 'work_dirs'  # nothing is written there
    batch_size = 2
    for loss in cfg.model.distiller.distill_losses.values():
        if 'batch_size' in loss:  # SemanticCalibrationLoss needs 4
            loss.batch_size = batch_size = 4
    cfg.train_dataloader.update(
        batch_size=batch_size, num_workers=0, persistent_workers=False)
    _drop_weights(cfg.model)
    to_smoke(cfg, 1)
    model = check_training(cfg).model
    for sentence in without_meaning(model):
        print(f'WARNING: {sentence}')
    # without what needs a GPU
    wrapper = {
        key: cfg.optim_wrapper[key]
        for key in ('optimizer', 'constructor', 'paramwise_cfg')
        if key in cfg.optim_wrapper
    }
    loader = dict(
        dataset=cfg.train_dataloader.dataset,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=batch_size,
        num_workers=0)
    scope = DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))
    with scope, torch.random.fork_rng(devices=[]):
        build_optim_wrapper(model, wrapper)
        batch = next(iter(Runner.build_dataloader(loader)))
        model.train()
        model(**model.data_preprocessor(batch, True), mode='loss')


def _drop_weights(value: Any) -> None:
    """A trial needs none, and some constructors (timm's) download them."""
    if isinstance(value, dict):
        value.pop('init_cfg', None)
        if value.get('pretrained') is True:
            value['pretrained'] = False
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            _drop_weights(inner)
