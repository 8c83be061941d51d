# Copyright (c) sdd_mm contributors. All rights reserved.
"""A classifier that was trained alone, or the student of a distillation."""
import copy
from typing import Optional

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..config_file import run_config
from ..engine.errors import PreflightError
from ..images import preprocessor_of
from ..weights import WeightsError, read_checkpoint, select


def load_classifier(checkpoint: str,
                    cfg: Optional[Config] = None) -> nn.Module:
    """A network from a checkpoint, with its data preprocessor, in eval mode.

    Args:
        checkpoint (str): A checkpoint of a training or a distillation.
        cfg (Config, optional): Its config. Defaults to None: the one in the
            checkpoint.

    Raises:
        PreflightError: If the checkpoint cannot be read, or does not fit.
    """
    try:
        content = read_checkpoint(checkpoint)
        cfg = run_config(content['meta'], None) if cfg is None else cfg
    except WeightsError as error:
        raise PreflightError(str(error)) from error
    except ValueError as error:
        raise PreflightError(f'{checkpoint}: {error}') from error
    weights, model = content['state_dict'], copy.deepcopy(cfg.model)
    preprocessor = preprocessor_of(cfg)
    if 'architecture' in model:
        model, weights = model.architecture, select(weights, 'architecture.')
    model.backbone.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(
            dict(model, _scope_='mmpretrain', data_preprocessor=preprocessor))
    try:
        built.load_state_dict(weights)
    except RuntimeError as error:
        raise PreflightError(f'{checkpoint} does not fit its config: '
                             f'{error}') from error
    return built.eval()
