# Copyright (c) sdd_mm contributors. All rights reserved.
"""Private names of MMEngine that hooks reach into."""
import mmengine
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from .errors import UnsupportedMMEngineError

READ_IN = '0.10.7'
# the table in this package's docstring says what for
PRIVATE = dict(
    Runner=('_train_loop', '_hooks', '_resume'),
    EpochBasedTrainLoop=('_decide_current_val_interval', ),
    IterBasedTrainLoop=('_decide_current_val_interval', ),
    InfiniteSampler=('_indices_of_rank', ),
    OptimWrapper=('_inner_count', '_clip_grad'),
    MessageHub=('_log_scalars', '_set_resumed_keys', '_get_valid_value'),
    HistoryBuffer=('_log_history', '_count_history',
                   '_set_default_statistics'))


def check_mmengine(runner) -> None:
    """Refuse an MMEngine that lacks what the hooks reach into.

    Args:
        runner (Runner): The runner of a run that starts.

    Raises:
        UnsupportedMMEngineError: With the first name that is absent.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    owners = dict(
        Runner=runner,
        EpochBasedTrainLoop=EpochBasedTrainLoop,
        IterBasedTrainLoop=IterBasedTrainLoop,
        InfiniteSampler=InfiniteSampler,
        OptimWrapper=OptimWrapper(torch.optim.SGD([weight], lr=1.)),
        MessageHub=runner.message_hub,
        HistoryBuffer=HistoryBuffer())
    for owner, names in PRIVATE.items():
        for name in names:
            if not hasattr(owners[owner], name):
                raise UnsupportedMMEngineError(
                    f'mmengine {mmengine.__version__} has no {owner}.{name}, '
                    'which the hooks of sdd_mm.runtime need: install '
                    f'mmengine {READ_IN}, or take scalars and exact_resume '
                    'out of default_hooks')
